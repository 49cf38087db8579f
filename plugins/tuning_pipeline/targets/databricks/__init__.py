"""Target databricks: one run of a job in a Databricks workspace."""
