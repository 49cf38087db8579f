"""Helpers for tests: nothing here is collected."""
