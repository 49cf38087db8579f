"""The study's database: Airflow connections, server, account and tables, and the study itself."""
