"""Samplers and pruners: built from a spec, and what they look at."""
