"""Optuna's tables and the notes of runs: how trials are read, claimed, written and copied."""
