"""Path or table to matrices: fetch, read, check, split."""
