"""From a path or a table to matrices: fetch, read, check, split."""
