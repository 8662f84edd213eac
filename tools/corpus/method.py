"""What a method of copy-synthesis is, and how its parameters are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tools.corpus.spectra import Signal

T = TypeVar("T")

Copied = tuple[Signal, dict[str, object]]
"""The copy, as long as its original and aligned with it, and the parameters that were drawn."""

Copier = Callable[[Signal, np.random.Generator], Copied]
"""Speech at 16 kHz, float32 ``[samples]``, full scale 1.0, to a copy."""


@dataclass(frozen=True, slots=True)
class Method:
    """A generator of the corpus."""

    name: str
    technology: str
    """``vocoder``: speech from an acoustic description; ``codec``: from learned codes."""
    prepare: Callable[[Sequence[Signal], np.random.Generator], Copier]
    """Makes the copier; what learns, learns from these clips, which are all training clips."""


def fixed(copier: Copier) -> Callable[[Sequence[Signal], np.random.Generator], Copier]:
    """The ``prepare`` of a method that learns nothing."""
    return lambda _speech, _rng: copier


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """One of the choices, keeping its type."""
    return choices[int(rng.integers(len(choices)))]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
