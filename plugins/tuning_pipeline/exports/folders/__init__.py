"""Where exports lie: their paths, and folders that appear complete or not at all."""
