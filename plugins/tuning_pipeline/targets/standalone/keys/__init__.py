"""What a study file says to run on a Spark standalone cluster."""
