"""Calls of the sampler and the pruner, which may be anybody's code: what they raise is their trial's error."""
