"""The mirror of a study's trials in MLflow."""
