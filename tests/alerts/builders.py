"""Contexts and verdicts for tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from streamguard.alerts.context import DecisionRule, EngineFacts, LegContext, ModelFacts
from streamguard.alerts.desk import AlertDesk
from streamguard.alerts.settings import AlertSettings, OutboxSettings
from streamguard.alerts.topics import Topics
from streamguard.clock import Clock, LegClock, SystemClock
from streamguard.events import LegRole
from streamguard.verdict.scores import Attribution, Rejection, State, Verdict

START_UTC = 1_800_000_000.0
TOPICS = Topics("streamguard", "node1")


def context(leg: str = "leg1", source: str = "trunk", call: str = "call-secret-7") -> LegContext:
    return LegContext(
        node="node1",
        source=source,
        call=call,
        leg=leg,
        leg_index=0,
        role=LegRole.CALLER,
        codec="PCMU",
        clock=LegClock(START_UTC),
        detector=ModelFacts("cnn_lstm", "0.1.0", "ab" * 32),
        engine=EngineFacts("cpu-fp32", "CPUExecutionProvider", "fp32"),
        rule=DecisionRule("sequential", MappingProxyType({"upper": 3.2, "lower": -2.0})),
        calibration="fp32/narrow",
        attribution=ModelFacts("lava", "0.2.0", "cd" * 32),
        attribution_engine=EngineFacts("cpu-int8", "CPUExecutionProvider", "int8"),
    )


def verdict(
    state: State = State.SPOOF,
    offset_s: float = 3.0,
    llr: float = 3.5,
    leg: str = "leg1",
    attribution: Attribution = Attribution(),  # noqa: B008 (frozen)
    clear: bool | None = None,
) -> Verdict:
    """``clear`` by default where a voter's verdict always is: BONAFIDE."""
    return Verdict(
        leg=leg,
        state=state,
        llr=llr,
        p_spoof=0.83,
        net_speech_s=offset_s / 2,
        windows_scored=4,
        windows_rejected=MappingProxyType({Rejection.SILENCE: 2}),
        attribution=attribution,
        evidence=((0.0, 3.0),),
        clear=state is State.BONAFIDE if clear is None else clear,
        offset_s=offset_s,
    )


def counting_ids() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"alert{next(numbers)}"


def desk(
    folder: Path | None,
    settings: AlertSettings | None = None,
    clock: Clock | None = None,
    max_messages: int = 1000,
    topics: Topics = TOPICS,
) -> AlertDesk:
    """With its outbox in ``folder``; without one where that is None."""
    outbox = None
    if folder is not None:
        outbox = OutboxSettings(
            path=folder / "outbox.sqlite3", max_messages=max_messages, reserve_bytes=4096
        )
    return AlertDesk(settings or AlertSettings(), topics, clock or SystemClock(), outbox)
