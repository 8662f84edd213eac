"""From a configuration to a scorer: the one way in which hops are scored, live and offline."""

from __future__ import annotations

from streamguard.audio.frontend import FrontEnd
from streamguard.audio.prompts import PromptBook
from streamguard.audio.settings import GateSettings
from streamguard.config import Config
from streamguard.inference.pair import PairNames
from streamguard.inference.scorer import Models, Scorer
from streamguard.inference.settings import InferenceSettings
from streamguard.verdict.rejection import judge_window


def make_scorer(
    models: Models,
    gate: GateSettings,
    settings: InferenceSettings,
    kind: type[Scorer] = Scorer,
) -> Scorer:
    """A scorer whose front ends and window judgements follow one gate.

    Raises AudioFileError for prompts that cannot be read.
    """
    prompts = PromptBook.open(gate.prompts) if gate.prompts else None
    return kind(
        models,
        front_end=lambda leg, left_context: FrontEnd(leg, left_context, gate, prompts),
        judge=lambda qualities: judge_window(qualities, gate),
        attribution_min_llr=settings.attribution_min_llr,
        attribution_catch_up_hops=settings.attribution_catch_up_hops,
    )


def pair_names(config: Config) -> PairNames:
    return PairNames(config.detector, config.attribution, config.engine)
