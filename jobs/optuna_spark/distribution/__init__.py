"""Ways to start workers: on Spark by RDD, joblib or DataFrame, or as plain processes."""
