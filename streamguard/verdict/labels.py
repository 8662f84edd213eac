"""Which technology, then which generator one window shows, or why no label is said: pure.

Softmax confidence below a floor abstains (reject option, Chow 1970); a nonconformity that few
held-out clips reach is out of distribution (split conformal, Vovk et al. 2005).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamguard.verdict.calibration import ChannelCalibration, ConformalTable
from streamguard.verdict.scores import Attribution, Label, Rejection

if TYPE_CHECKING:
    import numpy.typing as npt

CONFORMAL_ALPHA = 0.05
"""A true label is called out of distribution this often."""

NEVER = 1.0
"""The floor of a level whose confidence was found to mean nothing: it always abstains."""


@dataclass(frozen=True, slots=True)
class LabelRules:
    """Labels in the order of the logits, and the confidence that each level needs."""

    technologies: tuple[str, ...]
    generators: tuple[str, ...]
    technology_of: tuple[str, ...]
    """For each generator."""
    technology_floor: float
    generator_floor: float


def label_window(
    technology_logits: npt.NDArray[np.floating],
    generator_logits: npt.NDArray[np.floating],
    rules: LabelRules,
    calibration: ChannelCalibration | None,
) -> Attribution:
    """Labels of one window from finite logits.

    A generator is looked for only among those of the accepted technology, with its probability
    among all: mass on generators of other technologies speaks against it.
    """
    if calibration is None or calibration.technology is None:
        return Attribution(technology=Rejection.UNCALIBRATED)
    technology = _decide(
        _softmax(technology_logits),
        rules.technologies,
        range(len(rules.technologies)),
        rules.technology_floor,
        calibration.technology,
    )
    if isinstance(technology, Rejection):
        return Attribution(technology=technology)
    members = [i for i, t in enumerate(rules.technology_of) if t == technology.label]
    if not members:
        return Attribution(technology=technology)
    if calibration.generator is None:
        return Attribution(technology=technology, generator=Rejection.UNCALIBRATED)
    generator = _decide(
        _softmax(generator_logits),
        rules.generators,
        members,
        rules.generator_floor,
        calibration.generator,
    )
    return Attribution(technology=technology, generator=generator)


def _decide(
    p: npt.NDArray[np.float64],
    labels: Sequence[str],
    members: Sequence[int],
    floor: float,
    table: ConformalTable,
) -> Label | Rejection:
    best = max(members, key=lambda i: float(p[i]))
    confidence = float(p[best])
    # Rounding makes a confidence of exactly 1 out of logits far enough apart.
    if confidence < floor or floor >= NEVER:
        return Rejection.LOW_CONFIDENCE
    p_value = table.p_value(1.0 - confidence)
    if p_value < CONFORMAL_ALPHA:
        return Rejection.OUT_OF_DISTRIBUTION
    return Label(labels[best], p_value)


def _softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    x = np.asarray(logits, dtype=np.float64)
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())
