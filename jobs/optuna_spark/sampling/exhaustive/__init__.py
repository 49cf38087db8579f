"""Samplers that try every point of a finite search space: each once, however many workers there are and die."""
