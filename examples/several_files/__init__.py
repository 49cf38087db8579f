"""A package beside its study file: the pipeline sends the folder to the cluster, with all that is in it."""
