"""The Airflow side of a tuning run: study files, database, study, Spark submission, exports, failures."""
