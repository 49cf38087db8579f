"""`make bench`: measures what the engine costs and gains, beside other ways to run the same trials."""
