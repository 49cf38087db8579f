"""The tasks of a study's DAG that are the same for every target."""
