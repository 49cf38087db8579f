"""How the rows of a table are divided into those to train on and those to validate on."""
