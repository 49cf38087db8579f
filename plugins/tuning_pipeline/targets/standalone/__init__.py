"""The target standalone: trials run as a Spark application on a standalone cluster."""
