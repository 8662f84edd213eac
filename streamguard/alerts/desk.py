"""The alert desk: what the monitor talks to. Verdicts in, alerts into the outbox.

The lifecycle runs on the event loop; SQLite runs in the desk's own thread, in the order of the
calls. Nobody here knows of a connection: the publisher is woken and fetches.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from streamguard.alerts import schema
from streamguard.alerts.alert import Acknowledgement, Alert, ClearedReason, Kind
from streamguard.alerts.board import SourceBoard
from streamguard.alerts.context import LatencySnapshot, LegContext, QualitySnapshot
from streamguard.alerts.lifecycle import Lifecycle
from streamguard.alerts.message import Message
from streamguard.alerts.outbox import Outbox, OutboxError, OutboxStats
from streamguard.alerts.retained import RetainedState
from streamguard.alerts.settings import AlertSettings, OutboxSettings
from streamguard.alerts.suppression import Suppression, Suppressions
from streamguard.alerts.topics import Topics
from streamguard.clock import Clock
from streamguard.events import EndReason
from streamguard.verdict.scores import Verdict

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Listener = Callable[[Alert], None]

_NO_QUALITY = QualitySnapshot()
_NO_LATENCY = LatencySnapshot()
_ENDED = {
    EndReason.HANGUP: ClearedReason.CALL_ENDED,
    EndReason.INACTIVITY: ClearedReason.CALL_ENDED,
    EndReason.SOURCE_LOST: ClearedReason.SOURCE_LOST,
    EndReason.SHUTDOWN: ClearedReason.SHUTDOWN,
}


@dataclass(frozen=True, slots=True)
class DeskStats:
    """A snapshot for metrics and status."""

    alerts: Counter[tuple[str, str]]
    """By (source, kind)."""
    suppressed: Counter[str]
    """By source."""
    open_alerts: int
    outbox: OutboxStats


class AlertDesk:
    """Start it, feed it, :meth:`shutdown` it, and :meth:`close` it once the publisher is done.

    Args:
        outbox: None keeps no alerts for a broker; listeners still hear them (file analysis).
        new_id: Makes alert ids; they must be unique over restarts.
    """

    def __init__(
        self,
        settings: AlertSettings,
        topics: Topics,
        clock: Clock,
        outbox: OutboxSettings | None,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self.wake = asyncio.Event()
        """Set when there is something to publish; the publisher clears it."""
        self.retained = RetainedState(self.wake)
        self._topics = topics
        self._clock = clock
        self._lifecycle = Lifecycle(settings, new_id)
        self._board = SourceBoard(settings.source_verdict_ttl_s)
        self._suppressions = Suppressions()
        self._listeners: list[Listener] = []
        self._alerts: Counter[tuple[str, str]] = Counter()
        self._outbox_stats = OutboxStats()
        self._outbox: Outbox | None = None
        self._thread: ThreadPoolExecutor | None = None
        if outbox is not None:
            self._outbox = Outbox(outbox.location, outbox.max_messages, outbox.reserve_bytes)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="streamguard-outbox")

    async def start(self, sources: Iterable[str] = ()) -> int:
        """Open the outbox and close what a crash left open; returns how many alerts that were.

        ``sources`` (configured names) have their retained verdict reset. Raises OutboxError.
        """
        now = self._clock.utc()
        for source in sources:
            self.watch_source(source)
        if self._outbox is None:
            return 0
        try:
            await self._in_thread(self._outbox.open)
            self._suppressions = Suppressions(await self._in_thread(self._outbox.suppressions))
            recovered = await self._in_thread(_recover, self._outbox, now)
        except OutboxError:
            await self.close()
            raise
        self._outbox_stats = await self._in_thread(self._outbox.stats)
        if recovered:
            log.warning("closed %d alerts of calls that a crash interrupted", recovered)
        if self._outbox_stats.depth:
            log.info("%d alerts wait in the outbox", self._outbox_stats.depth)
            self.wake.set()
        return recovered

    async def close(self) -> None:
        """Close the outbox and end its thread."""
        if self._thread is None or self._outbox is None:
            return
        await self._in_thread(self._outbox.close)
        thread, self._thread = self._thread, None
        await asyncio.to_thread(thread.shutdown)

    def watch_source(self, source: str) -> None:
        """From now on its verdict is retained; nothing is known of it yet."""
        if source not in self._board.sources():
            said = self._board.reset(source, self._clock.utc())
            self.retained.set(self._topics.source_verdict(source), said)

    def forget_source(self, source: str) -> None:
        """It is no longer configured: take its verdict off the broker."""
        self._board.forget(source)
        self.retained.forget(self._topics.source_verdict(source))

    async def verdict(
        self,
        context: LegContext,
        verdict: Verdict,
        quality: QualitySnapshot = _NO_QUALITY,
        latency: LatencySnapshot = _NO_LATENCY,
    ) -> Alert | None:
        """Take what is said of a leg now; returns the alert revision that it caused, stored."""
        now = self._clock.utc()
        said = self._board.verdict(context.source, context.leg, verdict.state, now)
        if said is not None:
            self.retained.set(self._topics.source_verdict(context.source), said)
        # Up to the decision nothing may wait: a model change or an end of the leg in between would
        # be undone by a verdict of before it.
        current = self._lifecycle.alert_of(context.leg)
        alert_id = current.alert_id if current else None
        muted = self._suppressions.match(context, alert_id, now) is not None
        alert = self._lifecycle.verdict(context, verdict, quality, latency, muted=muted)
        if alert is not None:
            await self._commit((alert,))
        await self._strike(self._suppressions.expire(now))
        return alert

    def refresh(self) -> None:
        """Say again what would expire on the broker; call it about once a second."""
        self._say(self._board.refresh(self._clock.utc()))

    async def leg_ended(self, leg: str, reason: EndReason) -> None:
        """Close the leg's alert, if it has one, and forget the leg."""
        now = self._clock.utc()
        self._leave_board(leg, now)
        detail = "inactivity" if reason is EndReason.INACTIVITY else None
        alert = self._lifecycle.end_leg(leg, _ENDED[reason], now, detail)
        if alert is not None:
            await self._commit((alert,))

    async def source_lost(self, source: str, detail: str = "") -> None:
        """Close and forget everything of a source."""
        now = self._clock.utc()
        said = self._board.source_lost(source, now)
        if said is not None:
            self.retained.set(self._topics.source_verdict(source), said)
        await self._commit(self._lifecycle.end_source(source, now, detail or None))

    async def model_changed(self, detail: str = "") -> None:
        """Close every alert: what raised it does not decide any more."""
        now = self._clock.utc()
        self._say(self._board.model_changed(now))
        await self._commit(
            self._lifecycle.end_all(ClearedReason.MODEL_CHANGED, now, detail or None)
        )

    async def shutdown(self) -> None:
        """Close every alert because we stop; the publisher should still deliver them."""
        now = self._clock.utc()
        await self._commit(self._lifecycle.end_all(ClearedReason.SHUTDOWN, now))
        for source in self._board.sources():
            topic = self._topics.source_verdict(source)
            self.retained.set(topic, self._board.reset(source, now))

    async def acknowledge(self, alert_id: str, operator: str, note: str = "") -> Alert | None:
        """Mark an open alert as seen by a person (audited); None if it is not open."""
        now = self._clock.utc()
        who = Acknowledgement(schema.plain(operator), schema.plain(note), now)
        alert = self._lifecycle.acknowledge(alert_id, who)
        if alert is not None:
            log.info("alert %s acknowledged by %s", alert_id, who.operator)
            await self._commit((alert,))
            await self._audit(now, "acknowledge", who.operator, alert_id, who.note)
        return alert

    async def suppress(self, rule: Suppression) -> None:
        """Put a rule in force (audited). Raises ValueError if there are too many."""
        now = self._clock.utc()
        expired = self._suppressions.expire(now)
        self._suppressions.add(rule)
        target = f"{rule.field}={rule.value} until {schema.rfc3339(rule.expires_utc)}"
        log.info("suppress %s by %s", rule.field, rule.operator)
        if self._outbox is not None:
            await self._in_thread(self._outbox.add_suppression, rule)
        await self._strike(expired)
        await self._audit(now, "suppress", rule.operator, target, rule.reason)

    def open_alerts(self) -> tuple[Alert, ...]:
        return self._lifecycle.open_alerts()

    def suppressions(self) -> tuple[Suppression, ...]:
        return self._suppressions.rules()

    def subscribe(self, listener: Listener) -> None:
        """Call ``listener`` on the event loop with every alert, once it is stored."""
        self._listeners.append(listener)

    async def queued(self, limit: int) -> list[Message]:
        """For the publisher: the oldest messages that are not delivered, in order."""
        if self._outbox is None:
            return []
        return await self._in_thread(self._outbox.queued, limit)

    async def delivered(self, seq: int) -> None:
        """For the publisher: the broker has acknowledged everything up to ``seq``."""
        if self._outbox is not None:
            await self._in_thread(self._mark, self._outbox, seq)

    def stats(self) -> DeskStats:
        return DeskStats(
            Counter(self._alerts),
            Counter(self._lifecycle.suppressed),
            len(self._lifecycle.open_alerts()),
            self._outbox_stats,
        )

    async def _commit(self, alerts: Sequence[Alert]) -> None:
        if not alerts:
            return
        for alert in alerts:
            self._alerts[alert.context.source, alert.kind.value] += 1
        if self._outbox is not None:
            created = self._clock.utc()
            messages = [
                Message(
                    alert_id=alert.alert_id,
                    revision=alert.revision,
                    kind=alert.kind,
                    topic=self._topics.alert(alert.context.source),
                    payload=schema.encode(alert),
                    created_utc=created,
                    cause=schema.cause(alert) if alert.kind is Kind.RAISED else b"",
                )
                for alert in alerts
            ]
            # Set at once: the publisher's question queues up behind our write, and is asked even if
            # our caller is cancelled while it waits here.
            self.wake.set()
            await self._in_thread(self._store, self._outbox, messages)
        for alert in alerts:
            for listener in self._listeners:
                listener(alert)

    def _store(self, outbox: Outbox, messages: Sequence[Message]) -> None:
        """In the thread; statistics too, so that a cancelled caller does not leave old ones."""
        outbox.write(messages)
        self._outbox_stats = outbox.stats()

    def _mark(self, outbox: Outbox, seq: int) -> None:
        outbox.delivered(seq)
        self._outbox_stats = outbox.stats()

    def _leave_board(self, leg: str, now: float) -> None:
        left = self._board.leg_ended(leg, now)
        if left is not None and left[1] is not None:
            self.retained.set(self._topics.source_verdict(left[0]), left[1])

    def _say(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        for source, value in values.items():
            self.retained.set(self._topics.source_verdict(source), value)

    async def _strike(self, expired: Iterable[Suppression]) -> None:
        """Take rules that have run out off the disk."""
        for rule in expired:
            log.info("suppress %s by %s has expired", rule.field, rule.operator)
            if self._outbox is not None:
                await self._in_thread(self._outbox.remove_suppression, rule.rule_id)

    async def _audit(self, now: float, action: str, operator: str, target: str, note: str) -> None:
        if self._outbox is not None:
            await self._in_thread(self._outbox.audit, now, action, operator, target, note)

    async def _in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        assert self._thread is not None
        # Shielded: cancelling the caller must not take a waiting write out of the queue.
        return await asyncio.shield(
            asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*args, **kwargs))
        )


def _recover(outbox: Outbox, now_utc: float) -> int:
    """Close every alert on the list of open ones: its call did not outlive the process."""
    messages = []
    for alert_id, topic, payload in outbox.open_alerts():
        try:
            revision, closed = schema.close_interrupted(payload, now_utc)
        except ValueError as err:
            log.error("alert %s in the outbox cannot be closed: %s", alert_id, err)
            outbox.forget_open(alert_id)
            continue
        messages.append(Message(alert_id, revision, Kind.CLEARED, topic, closed, now_utc))
    outbox.write(messages)
    return len(messages)
