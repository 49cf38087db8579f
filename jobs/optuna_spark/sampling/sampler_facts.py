"""What a run has to know of its sampler: which trials it must see, what it stores, and its seed."""

from __future__ import annotations

import numpy as np
from optuna.samplers import BaseSampler, BruteForceSampler, GridSampler, TPESampler

from optuna_spark.sampling.history import RECENT


def needs_all(sampler: BaseSampler) -> bool:
    """Whether a sampler must be shown every trial, because it tries each combination once."""
    return isinstance(sampler, GridSampler | BruteForceSampler)


def recent_share(sampler: BaseSampler) -> float:
    """The share of the most recent trials among those that a sampler is shown in a long study (sampling/history.py).

    TPE compares the best 25 trials with all others, so it must be shown a picture of the whole history. Recent trials
    are a small part of that, and TPE has placed them near the best ones. Other samplers go on from their last
    generation, so they need more recent trials.
    """
    return 1 / 50 if isinstance(sampler, TPESampler) else RECENT


def portable(key: str) -> bool:
    """Whether a system attribute of the study means the same in memory and in the database.

    Genetic samplers cache the ids of parent trials there. Ids differ between the two, and the samplers can compute the
    parents again.
    """
    return ":parent:" not in key


def sampler_seed(seed: int | None, history: int) -> int | None:
    """The sampler's seed: the spec's for a new study, else one made from it and the number of stored trials.

    With the same seed the sampler would suggest the stored trials again.
    """
    if seed is None or not history:
        return seed
    return int(np.random.SeedSequence([seed, history]).generate_state(1)[0])
