"""Whether a run has anything to do, and what it starts from."""
