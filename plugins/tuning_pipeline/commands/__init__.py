"""The command `tuning`: what a person does with studies outside Airflow's pages."""
