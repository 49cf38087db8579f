"""The tasks that a study's DAG has whatever its target."""
