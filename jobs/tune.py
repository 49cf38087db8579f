"""Run an Optuna study on Spark: the one entry for every platform.

    spark-submit --py-files optuna_spark.zip tune.py --objective xgboost --filepath /data/wine.csv --trials 50

Airflow passes the whole run as `--spec-file`. By hand, the arguments are those of the examples this grew out of. The
storage URL comes from OPTUNA_STORAGE_URL, so that its password shows in no process list.
"""

from optuna_spark.entry.command_line import main

if __name__ == "__main__":
    main()
