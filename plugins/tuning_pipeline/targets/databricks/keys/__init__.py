"""What a study file says to run on Databricks."""
