"""The objective `xgboost`: its parameters, metrics, matrices and one trial of it."""
