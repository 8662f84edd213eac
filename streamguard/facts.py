"""What alerts and status repeat about models, engine and rule: built once per configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamguard.alerts.context import DecisionRule, EngineFacts, LegContext, ModelFacts
from streamguard.clock import LegClock
from streamguard.config import Config
from streamguard.events import LegRole, LegStarted
from streamguard.inference.auto import AUTO
from streamguard.inference.network import Network
from streamguard.inference.scorer import Models
from streamguard.verdict.calibration import ChannelCalibration
from streamguard.verdict.rulebook import Rulebook
from streamguard.verdict.scores import Channel
from streamguard.verdict.settings import VerdictSettings
from streamguard.verdict.voter import Voter


def _engine(network: Network) -> EngineFacts:
    info = network.engine.info
    return EngineFacts(info.target, info.provider, network.precision)


def _model(network: Network) -> ModelFacts:
    manifest = network.bundle.manifest
    return ModelFacts(manifest.name, manifest.version, network.bundle.sha256)


def rule_of(book: Rulebook) -> DecisionRule:
    """The rule's name, what was asked of it, and the levels that follow, per calibrated channel."""
    settings = book.settings
    sequential = settings.rule == "sequential"
    part = settings.sequential if sequential else settings.majority
    numbers: dict[str, float] = {
        key: float(value)
        for key, value in part.model_dump().items()
        if isinstance(value, int | float)
    }
    numbers["min_net_speech_s"] = settings.sequential.min_net_speech_s
    numbers["clear_llr"] = settings.clear_llr
    levels = {"change_llr": book.thresholds}
    if sequential:
        numbers["suspect_llr"] = settings.suspect_llr
        levels |= {"raise_llr": book.raise_llr, "accept_llr": book.accept_llr}
    for name, by_channel in levels.items():
        numbers |= {f"{name}_{channel.value}": level for channel, level in by_channel.items()}
    return DecisionRule(settings.rule, numbers)


@dataclass(frozen=True, slots=True)
class Judging:
    """How legs are judged under one configuration with one pair of models."""

    detector: ModelFacts
    attribution: ModelFacts | None
    engine: EngineFacts
    requested: EngineFacts
    attribution_engine: EngineFacts | None
    """Of its own under ``auto``: what was accepted is a matter of each bundle."""
    rule: DecisionRule
    calibrations: Mapping[Channel, ChannelCalibration]
    settings: VerdictSettings
    prior: float
    node: str

    @classmethod
    def of(cls, config: Config, models: Models) -> Judging:
        info = models.detector.engine.info
        precision = models.detector.precision
        calibrations = models.detector.bundle.calibrations.get(precision, {})
        # Boundaries are simulated once and remembered: here, not when the first call comes.
        book = Rulebook.make(config.verdict, calibrations)
        return cls(
            detector=_model(models.detector),
            attribution=_model(models.attribution) if models.attribution else None,
            engine=_engine(models.detector),
            requested=(
                EngineFacts(AUTO, info.requested_provider, AUTO)
                if config.engine == AUTO
                else EngineFacts(info.target, info.requested_provider, info.requested_precision)
            ),
            attribution_engine=_engine(models.attribution) if models.attribution else None,
            rule=rule_of(book),
            calibrations=calibrations,
            settings=config.verdict,
            prior=config.prior,
            node=config.node,
        )

    def runs_as(self, other: Judging) -> bool:
        """Whether both are of the same models on the same engine."""
        return (
            self.detector,
            self.attribution,
            self.engine,
            self.attribution_engine,
            self.requested,
        ) == (
            other.detector,
            other.attribution,
            other.engine,
            other.attribution_engine,
            other.requested,
        )

    def voter(self, started: LegStarted) -> Voter:
        return Voter(
            self.settings,
            self.calibrations,
            self.prior,
            started.role is LegRole.MIXED,
            started.leg,
        )

    def context(self, started: LegStarted, clock: LegClock) -> LegContext:
        return LegContext(
            node=self.node,
            source=started.source,
            call=started.call,
            leg=started.leg,
            leg_index=started.index,
            role=started.role,
            codec=started.codec,
            clock=clock,
            detector=self.detector,
            engine=self.engine,
            rule=self.rule,
            calibration=f"{self.detector.sha256[:12]}/{self.engine.precision}",
            attribution=self.attribution,
            attribution_engine=self.attribution_engine,
        )

    def as_json(self) -> dict[str, Any]:
        """For status: models, and the engine as asked and as got."""

        def model(facts: ModelFacts | None) -> dict[str, str] | None:
            if facts is None:
                return None
            return {"name": facts.name, "version": facts.version, "sha256": facts.sha256}

        def engine(facts: EngineFacts | None) -> dict[str, str] | None:
            if facts is None:
                return None
            return {
                "target": facts.target,
                "provider": facts.provider,
                "precision": facts.precision,
            }

        return {
            "model": {"detector": model(self.detector), "attribution": model(self.attribution)},
            "engine": {
                "requested": engine(self.requested),
                "effective": engine(self.engine),
                "attribution": engine(self.attribution_engine),
            },
            "rule": {"name": self.rule.name, "thresholds": dict(self.rule.thresholds)},
        }
