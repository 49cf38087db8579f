"""A finished study as plain data: its best trials, rows of trials, the study as it was at one moment."""
