#!/bin/sh
# Prints the URL of Airflow's own database in the containers (AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD).
set -eu
printf 'mysql+mysqldb://airflow:%s@mysql:3306/airflow' "$(cat /run/secrets/airflow_db_password)"
