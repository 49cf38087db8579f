"""A study as plain data: its best trials, its trials as rows, and a snapshot of it."""
