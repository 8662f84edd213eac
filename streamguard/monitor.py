"""Legs of all sources, from event to verdict: intake, inference, voter, alert desk.

Owned by the event loop. What is slow (resampling, gate, networks) happens in the inference worker;
what is durable (alerts) behind the sink. Nothing here knows where audio comes from or goes to.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from streamguard.alerts.context import LatencySnapshot, LegContext, QualitySnapshot
from streamguard.audio.frames import RawBlock
from streamguard.audio.intake import Intake
from streamguard.clock import HOP_SECONDS, Clock, LegClock
from streamguard.events import (
    Answered,
    Audio,
    CallEnded,
    CallStarted,
    EndReason,
    Gap,
    Hold,
    LegEnded,
    LegRole,
    LegStarted,
    LegUpdated,
    MediaChanged,
    Quality,
    Resume,
    SegmentStarted,
    SourceDown,
    SourceEvent,
    SourceUp,
    Tone,
)
from streamguard.inference.scorer import HopResult
from streamguard.policy import OTHER_TRUNK, Exclusion, Policy, PolicySettings
from streamguard.telemetry.latency import QuantileTracker
from streamguard.verdict.scores import State, Verdict
from streamguard.verdict.voter import Voter

ENDED_LEGS_KEPT = 64
"""Legs that are over but still shown in ``/status``: enough to read what the last calls were."""
LEG_LATENCY_WINDOW = 200
"""Windows (100 s) over which a leg's own latency quantiles are taken."""


class Inference(Protocol):
    """What the monitor asks of the inference worker."""

    async def submit(self, block: RawBlock) -> None:
        """Queue a block of a recording; wait for room."""

    def submit_nowait(self, block: RawBlock) -> None:
        """Queue a block of a live leg; what has no room is dropped, oldest first, and counted."""

    async def close_leg(self, leg: str) -> None:
        """Return when every result of the leg has been delivered."""


class VerdictSink(Protocol):
    """Who is told what is said of a leg: the alert desk, or a collector."""

    async def verdict(
        self,
        context: LegContext,
        verdict: Verdict,
        quality: QualitySnapshot,
        latency: LatencySnapshot,
    ) -> object: ...

    async def leg_ended(self, leg: str, reason: EndReason) -> None: ...


_Mark = Quality | LegUpdated | MediaChanged


@dataclass(slots=True, eq=False)
class Leg:
    """Everything the monitor keeps of one leg."""

    started: LegStarted
    context: LegContext
    intake: Intake
    voter: Voter
    verdict: Verdict
    live: bool
    excluded: Exclusion | None = None
    """Why it is not monitored: it is counted and shown, and nothing of it is heard."""
    allowed: bool = False
    """Whether the policy allows its speaker, whatever the role."""
    trunk: str = OTHER_TRUNK
    early: bool = False
    """Not answered yet, and not to be heard until then."""
    held: bool = False
    level_dbfs: float | None = None
    loss_pct: float | None = None
    jitter_ms: float | None = None
    far_loss_pct: float | None = None
    far_jitter_ms: float | None = None
    hops: int = 0
    latency: QuantileTracker = field(default_factory=lambda: QuantileTracker(LEG_LATENCY_WINDOW))
    ended: EndReason | None = None
    """Set when its end has been told; while it is ending, see ``ending``."""
    ending: asyncio.Task[None] | None = None
    began_at: float = 0.0
    """Monotonic time of sample 0, no later than the fastest arrival so far allows."""
    lost_samples: int = 0
    """As reported to the observer so far, in the rate of the source."""
    marks: deque[tuple[int, _Mark]] = field(default_factory=deque)
    """Of a recording: what the source says beside the audio, and the hop from which it holds."""


class Observer(Protocol):
    """Metrics and displays; called on the event loop, must not block."""

    def source(self, name: str, *, up: bool, reason: str) -> None: ...
    def calls(self, source: str, active: int) -> None: ...
    def audio(self, source: str, utc: float) -> None: ...
    def lost(self, source: str, seconds: float) -> None: ...
    def result(self, leg: Leg, result: HopResult, latency_s: float) -> None: ...
    def finished(self, leg: Leg) -> None: ...


class Monitor:
    """Routes source events to legs, and window scores to verdicts."""

    def __init__(
        self,
        *,
        inference: Inference,
        sink: VerdictSink,
        clock: Clock,
        make_voter: Callable[[LegStarted], Voter],
        make_context: Callable[[LegStarted, LegClock], LegContext],
        observer: Observer,
        policy: Policy | None = None,
    ) -> None:
        self.policy = policy or Policy(PolicySettings())
        """For legs that begin; may be replaced."""
        self._inference = inference
        self._sink = sink
        self._clock = clock
        self._make_voter = make_voter
        self._make_context = make_context
        self._observer = observer
        self._legs: dict[str, Leg] = {}
        self._ended_legs: deque[Leg] = deque(maxlen=ENDED_LEGS_KEPT)
        self._calls: dict[str, str] = {}
        """call -> source"""
        self.stray: Counter[str] = Counter()
        """Events for legs that do not exist (any more), by kind."""

    def legs(self) -> tuple[Leg, ...]:
        """The live legs and the last ones that ended, oldest first; to be read, not changed."""
        return (*self._ended_legs, *self._legs.values())

    async def emit(self, event: SourceEvent, *, live: bool = True) -> None:
        """Take one event of a source; a replay (not ``live``) waits while inference is full."""
        match event:
            case LegStarted():
                self._start_leg(event, live=live)
            case LegEnded():
                await self._ended(self._end([event.leg], event.reason), live=live)
            case CallStarted():
                self._calls[event.call] = event.source
                self._count_calls(event.source)
            case CallEnded():
                names = [k for k, leg in self._legs.items() if leg.started.call == event.call]
                await self._ended(self._end(names, event.reason), live=live)
                source = self._calls.pop(event.call, None)
                if source is not None:
                    self._count_calls(source)
            case SourceUp():
                self._observer.source(event.source, up=True, reason=event.detail)
            case SourceDown():
                self._observer.source(event.source, up=False, reason=event.reason)
                await self.end_source(event.source, EndReason.SOURCE_LOST)
            case _:
                await self._leg_event(event)

    async def _leg_event(
        self,
        event: Audio
        | Gap
        | Tone
        | LegUpdated
        | Answered
        | MediaChanged
        | Hold
        | Resume
        | SegmentStarted
        | Quality,
    ) -> None:
        leg = self._legs.get(event.leg)
        if leg is None or leg.ending is not None:
            self.stray[type(event).__name__] += 1
            return
        blocks: list[RawBlock] = []
        match event:
            case Audio() if leg.excluded is not None:
                self._observer.audio(leg.started.source, self._clock.utc())
                leg.intake.skip(event.first_sample, len(event.samples))
            case Gap() if leg.excluded is not None:
                leg.intake.skip(event.first_sample, event.count)
            case Tone() if leg.excluded is not None:
                pass
            case Audio():
                self._observer.audio(leg.started.source, self._clock.utc())
                blocks = leg.intake.audio(event)
                self._arrived(leg, event.received_at)
            case Gap():
                blocks = leg.intake.gap(event)
                self._arrived(leg, event.received_at)
            case Tone():
                blocks = leg.intake.tone(event)
            case Quality() | LegUpdated():
                _note(leg, event)
                if isinstance(event, LegUpdated) and not leg.allowed:
                    leg.excluded = self.policy.exclusion(leg.started.source, event.role)
            case MediaChanged():
                _note(leg, event)
                blocks = leg.intake.media_changed(event.rate_hz, event.codec)
            case Hold():
                leg.held = True
                blocks = leg.intake.hold()
            case Resume() | Answered():
                if isinstance(event, Resume):
                    leg.held = False
                else:
                    leg.early = False
                if not (leg.held or leg.early):
                    blocks = leg.intake.resume()
            case SegmentStarted():
                blocks = leg.intake.segment(event.first_sample)
        await self._submit(leg, blocks)

    def _arrived(self, leg: Leg, received_at: float) -> None:
        """Nothing is heard before it is spoken: what has come so fast began so much earlier.

        A source tells of a leg when its first packet is there, which ended before it came; later
        ones may have been faster. The hour of the wall is asked once: it may be set in mid-call.
        """
        if leg.started.started_utc is not None:
            return
        began_at = received_at - leg.intake.position_s
        if began_at < leg.began_at:
            start_utc = leg.context.clock.start_utc - (leg.began_at - began_at)
            leg.context = dataclasses.replace(leg.context, clock=LegClock(start_utc))
            leg.began_at = began_at

    async def _submit(self, leg: Leg, blocks: Iterable[RawBlock]) -> None:
        for block in blocks:
            if leg.live:
                self._inference.submit_nowait(block)
            else:
                await self._inference.submit(block)

    def _count_calls(self, source: str) -> None:
        active = sum(1 for owner in self._calls.values() if owner == source)
        self._observer.calls(source, active)

    def _start_leg(self, event: LegStarted, *, live: bool) -> None:
        start_utc = event.started_utc
        if start_utc is None:
            start_utc = self._clock.utc() - (self._clock.monotonic() - event.received_at)
        policy = self.policy
        allowed = policy.is_allowed(event)
        trunk = policy.trunk(event)
        # Numbers go no further than this.
        event = dataclasses.replace(event, identities=())
        voter = self._make_voter(event)
        leg = self._legs[event.leg] = Leg(
            started=event,
            context=self._make_context(event, LegClock(start_utc)),
            intake=Intake(event.leg, event.rate_hz, event.codec),
            voter=voter,
            verdict=voter.verdict,
            live=live,
            excluded=Exclusion.ALLOWED if allowed else policy.exclusion(event.source, event.role),
            allowed=allowed,
            trunk=trunk,
            early=not event.answered and not policy.hears_early_media(event.source),
            began_at=event.received_at,
        )
        if leg.early:
            leg.intake.hold()

    def _end(self, names: Iterable[str], reason: EndReason) -> list[asyncio.Task[None]]:
        """Begin to end legs, or join those that are ending already; their tasks."""
        tasks = []
        for name in names:
            leg = self._legs.get(name)
            if leg is None:
                continue
            if leg.ending is None:
                # A task of its own: a source that is cancelled in the middle, or one slow leg among
                # many, must not keep the end of a leg from being told.
                leg.ending = asyncio.create_task(self._finish(name, leg, reason), name="leg-end")
            tasks.append(leg.ending)
        return tasks

    async def _ended(self, tasks: Iterable[asyncio.Task[None]], *, live: bool) -> None:
        """A replay waits, for the sake of order; live audio of other legs does not."""
        if not live:
            await _all(tasks)

    async def _finish(self, name: str, leg: Leg, reason: EndReason) -> None:
        leg.intake.end()
        await self._inference.close_leg(name)
        self._report_lost(leg)
        while leg.marks:
            _learn(leg, leg.marks.popleft()[1])
        leg.ended = reason
        self._observer.finished(leg)
        await self._sink.leg_ended(name, reason)
        self._ended_legs.append(self._legs.pop(name))

    async def end_source(self, source: str, reason: EndReason) -> None:
        """End every leg and call of a source."""
        names = [k for k, leg in self._legs.items() if leg.started.source == source]
        await _all(self._end(names, reason))
        for call in [c for c, owner in self._calls.items() if owner == source]:
            del self._calls[call]
        self._count_calls(source)

    async def end_all(self, reason: EndReason) -> None:
        """End everything: the last step before the models go."""
        tasks = self._end(list(self._legs), reason)
        sources = set(self._calls.values())
        self._calls.clear()
        for source in sources:
            self._count_calls(source)
        await _all(tasks)

    async def abandon(self) -> None:
        """Give up on the ends that are not told yet: the models are gone."""
        tasks = [leg.ending for leg in self._legs.values() if leg.ending is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _report_lost(self, leg: Leg) -> None:
        """What the intake filled for want of audio, whoever noticed the hole."""
        lost = leg.intake.lost_samples
        if lost > leg.lost_samples:
            seconds = (lost - leg.lost_samples) / leg.intake.rate_hz
            leg.lost_samples = lost
            self._observer.lost(leg.started.source, seconds)

    def judge_anew(
        self,
        make_voter: Callable[[LegStarted], Voter],
        make_context: Callable[[LegStarted, LegClock], LegContext],
    ) -> None:
        """Forget what was said of every leg (new models or rules); its audio goes on unbroken."""
        self._make_voter = make_voter
        self._make_context = make_context
        for leg in self._legs.values():
            leg.voter = make_voter(leg.started)
            fresh = make_context(leg.started, leg.context.clock)
            leg.context = dataclasses.replace(fresh, role=leg.context.role, codec=leg.context.codec)
            leg.voter.role_mixed = leg.context.role is LegRole.MIXED
            leg.verdict = leg.voter.verdict

    async def on_result(self, result: HopResult) -> None:
        """Take one hop's result from the worker; those of a leg come in order."""
        leg = self._legs.get(result.leg)
        if leg is None:
            self.stray["HopResult"] += 1
            return
        self._report_lost(leg)
        while leg.marks and leg.marks[0][0] <= result.index:
            _learn(leg, leg.marks.popleft()[1])
        if result.quality is not None:
            leg.hops += 1
            leg.level_dbfs = result.quality.level_dbfs
        latency_s = max(0.0, self._clock.monotonic() - result.received_at)
        if result.score is not None:
            leg.verdict = leg.voter.update(result.score)
            leg.latency.add(latency_s)
            await self._tell(leg)
        elif result.late is not None:
            leg.verdict = leg.voter.attribute(result.index, result.late)
            await self._tell(leg)
        self._observer.result(leg, result, latency_s)

    async def _tell(self, leg: Leg) -> None:
        suspicious = leg.verdict.state in (State.SUSPECT, State.SPOOF)
        # Quantiles cost more than a verdict does; only an alert shows them.
        quantiles = leg.latency.quantiles() if suspicious else None
        latency = (
            LatencySnapshot(1000 * quantiles.p50, 1000 * quantiles.p95)
            if quantiles is not None
            else LatencySnapshot()
        )
        quality = QualitySnapshot(leg.loss_pct, leg.jitter_ms, leg.level_dbfs)
        await self._sink.verdict(leg.context, leg.verdict, quality, latency)


def _note(leg: Leg, event: _Mark) -> None:
    """Of a live leg, what holds now; results of a recording come when the thread has time, and what
    is said of a window must not depend on that."""
    if leg.live:
        _learn(leg, event)
    else:
        leg.marks.append((int(leg.intake.position_s / HOP_SECONDS), event))


def _learn(leg: Leg, event: _Mark) -> None:
    match event:
        case Quality():
            leg.loss_pct, leg.jitter_ms = event.loss_pct, event.jitter_ms
            leg.far_loss_pct, leg.far_jitter_ms = event.far_loss_pct, event.far_jitter_ms
        case LegUpdated():
            leg.context = dataclasses.replace(leg.context, role=event.role)
            leg.voter.role_mixed = event.role is LegRole.MIXED
        case MediaChanged():
            leg.context = dataclasses.replace(leg.context, codec=event.codec)


async def _all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Wait for tasks that go on if we are cancelled."""
    waited = [asyncio.shield(task) for task in tasks]
    if waited:
        await asyncio.gather(*waited)
