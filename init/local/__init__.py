"""Makes one machine ready: environments, a private MySQL server, a Spark cluster, and a run through Airflow.

It imports the standard library only, because it runs before anything is installed.
"""
