"""The report of an export: one HTML page, its plots and what they are drawn from."""
