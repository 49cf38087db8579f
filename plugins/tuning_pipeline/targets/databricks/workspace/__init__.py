"""The files and runs of a study in a Databricks workspace."""
