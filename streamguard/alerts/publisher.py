"""The publisher: one task that owns the connection to the broker from the first second on.

It connects, says what is retained, drains the outbox in order, takes commands, and starts again
with a new connection whenever anything breaks. Nobody waits for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from streamguard.alerts.alert import Kind
from streamguard.alerts.command_handler import CommandHandler
from streamguard.alerts.desk import AlertDesk
from streamguard.alerts.message import Message
from streamguard.alerts.mqtt import (
    Link,
    LinkError,
    Outgoing,
    PublishRefusedError,
    Version,
)
from streamguard.alerts.schema import CONTENT_TYPE
from streamguard.alerts.settings import MqttSettings
from streamguard.alerts.topics import Topics
from streamguard.clock import Clock

log = logging.getLogger(__name__)

_BATCH = 100
_RESULTS_MAX = 100
_BACKOFF_DOUBLINGS_MAX = 16
_GOODBYE_S = 2.0
_STEADY_S = 5.0
_STORAGE_RETRY_S = 10.0


@dataclass(frozen=True, slots=True)
class LinkState:
    """Where the publisher stands; for status, readiness and the log."""

    connected: bool
    reason: str
    """Why not, or what with: ``connecting``, ``MQTT 5``, ``Not authorized`` ..."""
    since_utc: float
    attempts: int = 0
    """Failed ones in a row."""


@dataclass(frozen=True, slots=True)
class PublisherStats:
    """Counters since the start."""

    published: Counter[str]
    """Alerts acknowledged by the broker, by kind."""
    delayed: int
    no_listener: int
    """Alerts that the broker took while nobody was subscribed (MQTT 5 only)."""
    refused: Counter[str]
    """Alerts given up because the broker cannot take them as they are, by kind."""
    commands: Counter[str]
    """By outcome: ``ok``, or why one was refused."""
    connections: int


def full_jitter(upper_s: float) -> float:
    """Anywhere between now and ``upper_s``: clients that lost one broker do not return as one."""
    return random.uniform(0.0, upper_s)  # noqa: S311 (spreads load, guards nothing)


class Publisher:
    """Run :meth:`run` as a task; :meth:`stop` makes it deliver, say `offline` and return.

    Args:
        on_publish_seconds: Called with the time from sending an alert to its acknowledgement.
        drain: Called when an operator asks for it.
    """

    def __init__(
        self,
        settings: MqttSettings,
        topics: Topics,
        desk: AlertDesk,
        clock: Clock,
        *,
        on_publish_seconds: Callable[[float], None] = lambda _: None,
        drain: Callable[[], None] | None = None,
        jitter: Callable[[float], float] = full_jitter,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._desk = desk
        self._clock = clock
        self._on_publish_seconds = on_publish_seconds
        self._jitter = jitter
        self._versions = {
            "auto": (Version.V5, Version.V311),
            "5": (Version.V5,),
            "3.1.1": (Version.V311,),
        }[settings.protocol]
        self._client_id = settings.client_id or f"streamguard-{topics.base.rsplit('/', 1)[-1]}"
        self._stopping = asyncio.Event()
        self._deadline: float | None = None
        self._state = LinkState(False, "connecting", clock.utc())
        self._connected_utc = 0.0
        self._commands = CommandHandler(topics, desk, clock, drain)
        self._results: deque[bytes] = deque(maxlen=_RESULTS_MAX)
        self._stats: bytes | None = None
        self._refused_topics: set[str] = set()
        self._counts = PublisherStats(Counter(), 0, 0, Counter(), Counter(), 0)

    @property
    def state(self) -> LinkState:
        return self._state

    def stats(self) -> PublisherStats:
        counts = self._counts
        return replace(
            counts,
            published=Counter(counts.published),
            refused=Counter(counts.refused),
            commands=Counter(self._commands.counts),
        )

    def publish_stats(self, values: Mapping[str, Any]) -> None:
        """Counters for the `stats` topic; only the newest are kept, and only if connected."""
        if self._state.connected:
            self._stats = _json(values)
            self._desk.wake.set()

    def stop(self, drain_s: float = 5.0) -> None:
        """Deliver what waits for at most ``drain_s``, say `offline`, disconnect, return."""
        if not self._stopping.is_set():
            self._deadline = asyncio.get_running_loop().time() + drain_s
            self._stopping.set()
            self._desk.wake.set()

    async def run(self) -> None:
        """Until :meth:`stop`, or until cancelled (then `offline` is still tried)."""
        for warning in self._settings.warnings():
            log.warning("%s", warning)
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._stopping.is_set():
            started = loop.time()
            error = await self._cycle()
            if error is None:
                break
            # A broker that takes us and drops us at once is not a success.
            steady = self._state.connected and loop.time() - started >= _STEADY_S
            failures = 1 if steady else failures + 1
            self._enter(LinkState(False, error.reason, self._clock.utc(), failures))
            await self._pause(failures)
        self._enter(LinkState(False, "stopped", self._clock.utc()))

    async def _cycle(self) -> LinkError | None:
        """One session, or why there is none. Asks for the newest version first, every time.

        A version once refused is not remembered: the broker behind the name may be another by now.
        """
        error = None
        for version in self._versions:
            try:
                await self._session(version)
            except LinkError as err:
                error = err
                if not err.version_refused:
                    return err
            else:
                return None
        return error

    async def _session(self, version: Version) -> None:
        """One connection, from its attempt to its end. Raises LinkError unless told to stop."""
        link = await self._connect(version)
        if link is None:
            return
        try:
            try:
                await self._talk(link)
            except asyncio.CancelledError:
                await self._say_offline(link)
                await link.close()
                raise
            await self._say_offline(link)
            await link.close()
        finally:
            # After an error without DISCONNECT: the will speaks for us if we are not back soon.
            await link.drop()

    async def _talk(self, link: Link) -> None:
        await self._greet(link)
        lost: LinkError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(link), name="mqtt.read")
                await self._send(link)
                reader.cancel()
        except* LinkError as errors:
            lost = next(e for e in errors.exceptions if isinstance(e, LinkError))
        if lost is not None:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # A TaskGroup of 3.11 forgets a cancellation that comes together with an error.
                raise asyncio.CancelledError
            raise lost

    async def _greet(self, link: Link) -> None:
        self._connected_utc = self._clock.utc()
        self._counts = replace(self._counts, connections=self._counts.connections + 1)
        await self._publish_state(link, self._availability("online"))
        self._desk.retained.all_stale()
        if self._settings.commands:
            topics = self._topics
            await link.subscribe(topics.acknowledge, topics.suppress, topics.drain)
        self._enter(LinkState(True, f"MQTT {link.version.value}", self._connected_utc))

    async def _send(self, link: Link) -> None:
        """Everything that goes out, one at a time; returns when told to stop and drained."""
        wake = self._desk.wake
        while True:
            wake.clear()
            stopping = self._stopping.is_set()
            while (value := self._desk.retained.take()) is not None:
                topic, payload = value
                try:
                    await self._publish_state(link, Outgoing(topic, payload, retain=True))
                except LinkError:
                    self._desk.retained.unsent(topic)
                    raise
            while self._results:
                await self._publish_state(link, Outgoing(self._topics.result, self._results[0]))
                self._results.popleft()
            if self._stats is not None:
                stats, self._stats = self._stats, None
                await link.publish(Outgoing(self._topics.stats, stats, qos=0))
            await self._drain(link)
            if stopping or self._is_late():
                return
            # An outbox that could not store something tries again when it is asked for messages.
            ill = self._desk.stats().outbox.degraded is not None
            with suppress(TimeoutError):
                async with asyncio.timeout(_STORAGE_RETRY_S if ill else None):
                    await wake.wait()

    async def _drain(self, link: Link) -> None:
        while batch := await self._desk.queued(_BATCH):
            for message in batch:
                if self._is_late():
                    return
                await self._publish_alert(link, message)
                await self._desk.delivered(message.seq)

    async def _publish_alert(self, link: Link, message: Message) -> None:
        now = self._clock.utc()
        delayed = (
            message.created_utc < self._connected_utc
            or now - message.created_utc > self._settings.delayed_after_s
        )
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            heard = await link.publish(
                Outgoing(
                    message.topic,
                    message.payload,
                    content_type=CONTENT_TYPE,
                    expiry_s=self._settings.update_expiry_s
                    if message.kind is Kind.UPDATED
                    else None,
                    user_properties=(("delayed", "true"),) if delayed else (),
                ),
                self._patience(),
            )
        except PublishRefusedError as err:
            if not err.hopeless:
                raise
            log.error("alert %s/%d given up: %s", message.alert_id, message.revision, err.reason)
            self._counts.refused[message.kind.value] += 1
            return
        self._on_publish_seconds(loop.time() - started)
        self._counts.published[message.kind.value] += 1
        self._counts = replace(
            self._counts,
            delayed=self._counts.delayed + delayed,
            no_listener=self._counts.no_listener + (not heard),
        )

    async def _publish_state(self, link: Link, message: Outgoing) -> None:
        """State that is refused must not keep alerts from going out."""
        try:
            await link.publish(message, self._patience())
        except PublishRefusedError as err:
            if message.topic not in self._refused_topics:
                self._refused_topics.add(message.topic)
                log.error("%s", err.reason)

    async def _say_offline(self, link: Link) -> None:
        with suppress(LinkError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await link.publish(self._availability("offline"))

    async def _read(self, link: Link) -> None:
        async for message in link.messages():
            result = await self._commands.obey(message.topic, message.payload, message.retained)
            self._results.append(_json(result))
            self._desk.wake.set()

    def _availability(self, word: str) -> Outgoing:
        return Outgoing(self._topics.availability, word.encode(), retain=True)

    def _enter(self, state: LinkState) -> None:
        """Log changes only: a broker that is away for a day makes two lines."""
        before, self._state = self._state, state
        if (before.connected, before.reason) == (state.connected, state.reason):
            self._state = replace(state, since_utc=before.since_utc)
            return
        where = f"{self._settings.host}:{self._settings.effective_port}"
        if state.connected:
            log.info("connected to the broker at %s (%s)", where, state.reason)
        elif not self._stopping.is_set():
            log.warning("no connection to the broker at %s: %s", where, state.reason)

    async def _pause(self, failures: int) -> None:
        doubled = 2 ** min(failures - 1, _BACKOFF_DOUBLINGS_MAX)
        upper_s = min(self._settings.backoff_cap_s, self._settings.backoff_first_s * doubled)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._jitter(upper_s)):
                await self._stopping.wait()

    async def _connect(self, version: Version) -> Link | None:
        """A new link, or None if we are told to stop before there is one."""
        attempt = asyncio.create_task(
            Link.connect(self._settings, self._client_id, self._availability("offline"), version),
            name="mqtt.attempt",
        )
        stop = asyncio.create_task(self._stopping.wait(), name="mqtt.stop")
        try:
            await asyncio.wait((attempt, stop), return_when=asyncio.FIRST_COMPLETED)
            return attempt.result() if attempt.done() else None
        except asyncio.CancelledError:
            if attempt.done() and not attempt.cancelled() and attempt.exception() is None:
                await attempt.result().close()
            raise
        finally:
            attempt.cancel()
            stop.cancel()
            await asyncio.wait((attempt, stop))
            if not attempt.cancelled():
                attempt.exception()  # marks it as seen, where stopping came first

    def _is_late(self) -> bool:
        return self._deadline is not None and asyncio.get_running_loop().time() > self._deadline

    def _patience(self) -> float:
        """Seconds to wait for an acknowledgement: less when we are asked to stop."""
        if self._deadline is None:
            return self._settings.timeout_s
        left_s = self._deadline - asyncio.get_running_loop().time()
        return min(self._settings.timeout_s, max(0.1, left_s))


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
