"""Where trials run: one folder each."""
