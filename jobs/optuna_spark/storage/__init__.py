"""The database: Optuna's tables, connections and their errors, and how trials are written."""
