"""What happens in a Spark task: the worker, the trial it runs, and the source of its trials."""
