"""From files to one Arrow table, by the same rules whoever reads: which files, their bytes, their columns."""
