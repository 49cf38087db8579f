"""The fields that a trigger form can have: help, schema, and what each could reach."""
