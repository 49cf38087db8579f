"""The export of a run: tables, plots and a report, in a folder that is always complete."""
