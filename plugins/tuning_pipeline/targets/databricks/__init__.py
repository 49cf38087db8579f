"""The target databricks: trials run as a job run in a Databricks workspace."""
