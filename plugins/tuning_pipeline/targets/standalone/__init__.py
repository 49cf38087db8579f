"""Target standalone: one Spark application by spark-submit."""
