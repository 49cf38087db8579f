"""Decides whether a scheduled run has anything to do, and which trials a run tries first."""
