"""Samplers and pruners: how they are built from a spec, and which trials they are shown."""
