"""A run's identity, the settings that it keeps, and the lease that makes it the only run on its study."""
