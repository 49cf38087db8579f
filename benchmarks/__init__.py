"""make bench: what the engine costs and gains, beside other ways to do the same, measured in one go."""
