"""Which technology and which generator the windows of a leg agree on."""

from __future__ import annotations

from collections import Counter

from streamguard.verdict.scores import Attribution, Label, Rejection


class LabelTally:
    """Labels of accepted windows, weighted by the hops that each window adds."""

    def __init__(self) -> None:
        self._weight: Counter[str] = Counter()
        self._p_sum: dict[str, float] = {}
        self._rejected: Counter[Rejection] = Counter()

    def add(self, said: Label | Rejection | None, hops: int) -> None:
        if isinstance(said, Label):
            self._weight[said.label] += hops
            self._p_sum[said.label] = self._p_sum.get(said.label, 0.0) + said.p_value * hops
        elif said is not None:
            self._rejected[said] += hops

    def result(self) -> Label | Rejection | None:
        """The label with more than half of the weight; LOW_CONFIDENCE if windows conflict.

        Windows whose label was rejected abstain; if all were, the most frequent reason. The
        p-value is twice the weighted mean of the windows', at most 1: windows of one leg depend on
        each other in no known way, and twice the mean is then still a p-value, the mean is not
        (Vovk and Wang, Biometrika 2020).
        """
        if not self._weight:
            return self._rejected.most_common(1)[0][0] if self._rejected else None
        label, weight = self._weight.most_common(1)[0]
        if 2 * weight <= self._weight.total():
            return Rejection.LOW_CONFIDENCE
        return Label(label, min(1.0, 2 * self._p_sum[label] / weight))


class AttributionTally:
    """Technology first; generators only of the windows that agree with the technology."""

    def __init__(self) -> None:
        self._technology = LabelTally()
        self._generator: dict[str, LabelTally] = {}

    def add(self, attribution: Attribution | None, hops: int) -> None:
        if attribution is None or hops <= 0:
            return
        technology = attribution.technology
        self._technology.add(technology, hops)
        if isinstance(technology, Label):
            generators = self._generator.setdefault(technology.label, LabelTally())
            generators.add(attribution.generator, hops)

    def result(self) -> Attribution:
        technology = self._technology.result()
        if not isinstance(technology, Label):
            return Attribution(technology=technology)
        return Attribution(technology, self._generator[technology.label].result())
