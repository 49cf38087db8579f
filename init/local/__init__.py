"""What makes one machine ready: environments, a private MySQL server, a Spark cluster, and a run through Airflow.

Standard library only: this package runs before anything is installed.
"""
