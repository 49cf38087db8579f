"""A run with `coordination: database`: what its driver and its workers share through the database."""
