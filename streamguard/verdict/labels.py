"""Which technology, then which generator one window shows, or why no label is said: pure.

Calibrated confidence below a floor abstains (reject option, Chow 1970); what few held-out clips
come close to is out of distribution (split conformal, Vovk et al. 2005).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamguard.verdict.calibration import Answers, ChannelCalibration, ConformalTable
from streamguard.verdict.rejection import OOD_ALPHA, is_strange
from streamguard.verdict.scores import Attribution, Label, Rejection

if TYPE_CHECKING:
    import numpy.typing as npt

    Logits = npt.NDArray[np.floating]

CONFORMAL_ALPHA = 0.05
"""A true label is called out of distribution this often."""

GENERATOR_OOD_ALPHA = 0.05
"""A listed generator is called out of distribution this often, if the bundle says nothing else."""

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
    ood_alpha: float = OOD_ALPHA
    generator_ood_alpha: float = GENERATOR_OOD_ALPHA


def label_window(
    technology_logits: Logits,
    generator_logits: Logits,
    rules: LabelRules,
    calibration: ChannelCalibration | None,
    ood: float | None = None,
) -> Attribution:
    """Labels of one window from finite logits; ``ood`` is the head's own score, if it has one.

    A window far from all training data gets no label. A generator is looked for only among those
    of the accepted technology, with its probability among all: mass on generators of other
    technologies speaks against it; and not where the window is unlike the listed ones.
    """
    if calibration is None or calibration.technology is None:
        return Attribution(technology=Rejection.UNCALIBRATED)
    if is_strange(ood, calibration.ood, rules.ood_alpha):
        return Attribution(technology=Rejection.OUT_OF_DISTRIBUTION)
    technology = _decide(
        softmax(technology_logits, calibration.technology_answers.temperature),
        rules.technologies,
        range(len(rules.technologies)),
        rules.technology_floor,
        calibration.technology,
        calibration.technology_answers,
    )
    if isinstance(technology, Rejection):
        return Attribution(technology=technology)
    members = [i for i, t in enumerate(rules.technology_of) if t == technology.label]
    if not members:
        return Attribution(technology=technology)
    if calibration.generator is None:
        return Attribution(technology=technology, generator=Rejection.UNCALIBRATED)
    p_unlisted = generator_p_value(generator_logits, ood, calibration)
    if p_unlisted is not None and p_unlisted < rules.generator_ood_alpha:
        return Attribution(technology=technology, generator=Rejection.OUT_OF_DISTRIBUTION)
    generator = _decide(
        softmax(generator_logits, calibration.generator_answers.temperature),
        rules.generators,
        members,
        rules.generator_floor,
        calibration.generator,
        calibration.generator_answers,
    )
    return Attribution(technology=technology, generator=generator)


def generator_p_value(
    generator_logits: Logits, ood: float | None, calibration: ChannelCalibration
) -> float | None:
    """That the window is of a listed generator; None where nothing was calibrated for it.

    Twice the smaller p-value of distance and softmax energy (Bonferroni): the two depend on each
    other in a way that unseen generators change, and this needs no assumption on it.
    """
    p_values = []
    if calibration.generator_ood is not None and ood is not None:
        p_values.append(calibration.generator_ood.p_value(ood))
    if calibration.generator_sme is not None:
        p_values.append(calibration.generator_sme.p_value(sme(generator_logits)))
    return min(1.0, len(p_values) * min(p_values)) if p_values else None


def sme(logits: Logits) -> float:
    """Softmax energy, -log of the sum of exp(p): the higher, the less like any class.

    Klein et al. 2025; Liu et al.'s energy (2020) with probabilities in the place of logits.
    """
    return -float(np.log(np.exp(softmax(logits)).sum()))


def softmax(logits: Logits, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Probabilities over the last axis."""
    x = np.asarray(logits, dtype=np.float64) / temperature
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def _decide(
    p: npt.NDArray[np.float64],
    labels: Sequence[str],
    members: Sequence[int],
    floor: float,
    table: ConformalTable,
    answers: Answers,
) -> Label | Rejection:
    best = max(members, key=lambda i: float(p[i]))
    share = float(p[best])
    # Rounding makes a confidence of exactly 1 out of logits far enough apart.
    if answers.confidence(labels[best], share) < floor or floor >= NEVER:
        return Rejection.LOW_CONFIDENCE
    p_value = table.p_value(1.0 - share)
    if p_value < CONFORMAL_ALPHA:
        return Rejection.OUT_OF_DISTRIBUTION
    return Label(labels[best], p_value)
