"""From the arguments of a command line or of a Databricks job to a run, and from a failure to one card."""
