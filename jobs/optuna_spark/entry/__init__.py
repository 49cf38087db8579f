"""The two entries of a run, command line and Databricks job: from arguments to a run, from a failure to one card."""
