"""Opens tables in object stores: by Arrow, with what the machine has, or with an Airflow connection's secrets."""
