"""Every key of a study file: reading, settings, their checks."""
