"""One run as plain data. Standard library only."""
