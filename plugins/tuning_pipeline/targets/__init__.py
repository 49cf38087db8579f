"""The targets, that is, the places where trials run: one folder for each."""
