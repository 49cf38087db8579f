"""Distributed Optuna studies on Spark: the part that runs on the cluster."""
