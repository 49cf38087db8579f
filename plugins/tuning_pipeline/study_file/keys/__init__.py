"""The keys of a study file, as they are declared."""
