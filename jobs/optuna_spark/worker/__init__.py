"""What happens in a Spark task: a worker, its trials, and where it gets them from."""
