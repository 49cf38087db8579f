"""What a run leaves behind: tables, plots, a report, in folders that appear whole."""
