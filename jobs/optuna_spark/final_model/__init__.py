"""The final model: trained in one Spark task, and what its folder in the export holds."""
