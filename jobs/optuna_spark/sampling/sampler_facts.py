"""What a run has to know of its sampler: which trials it must see, what it stores, and its seed."""

from __future__ import annotations

import numpy as np
from optuna.samplers import BaseSampler, GPSampler, PartialFixedSampler


def sees_all(sampler: BaseSampler) -> bool:
    """Whether a sampler is shown every trial of a long study.

    The only one that is not is Optuna's GPSampler: its time grows with the cube of the number of trials.
    """
    if type(sampler) is PartialFixedSampler:
        return sees_all(sampler._base_sampler)
    return type(sampler) is not GPSampler


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
