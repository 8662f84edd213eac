"""What the daemon says of itself: ``/status``, ``/readyz``, the retained topics, the gauges."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import platform
import resource
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamguard import __version__
from streamguard.admission import Admission
from streamguard.alerts.desk import AlertDesk
from streamguard.alerts.publisher import Publisher
from streamguard.alerts.schema import rfc3339
from streamguard.alerts.topics import Topics
from streamguard.clock import HOP_SECONDS, Clock
from streamguard.facts import Judging
from streamguard.inference.worker import InferenceWorker
from streamguard.monitor import Monitor
from streamguard.observe import Observation, leg_json
from streamguard.sources.base import Source
from streamguard.telemetry.http import Readiness

TICK_S = 1.0
STATUS_INTERVAL_S = 15.0
"""Between two retained `status` messages: load changes all the time, nobody needs each value."""
STATS_INTERVAL_S = 30.0
SLOW_BATCH_S = 2.0
"""A batch that takes longer than this is four hops late: not ready, and degraded."""
STUCK_BATCH_S = 60.0
"""A batch that takes longer than this will not come back: better restarted than deaf."""


@dataclass(frozen=True, slots=True)
class _Death:
    reason: str
    degraded: bool


class StatusBoard:
    """Collects, once a second, what the parts count, and passes it on."""

    def __init__(
        self,
        *,
        topics: Topics,
        clock: Clock,
        desk: AlertDesk,
        monitor: Monitor,
        worker: InferenceWorker,
        observation: Observation,
        judging: Judging,
    ) -> None:
        self.judging = judging
        self.publisher: Publisher | None = None
        self.sources: dict[str, Source] = {}
        self.admission = Admission(self.sources)
        self._topics = topics
        self._clock = clock
        self._desk = desk
        self._monitor = monitor
        self._worker = worker
        self._observation = observation
        self._metrics = observation.metrics
        self._deaths: dict[str, _Death] = {}
        self._finished: set[str] = set()
        """Recordings that were played to their end: not up, and nothing is wrong with them."""
        self._batches_before: Counter[int] = Counter()
        self._started = time.monotonic()
        self._busy_before = 0.0
        self._hops_before = 0
        self._load = 0.0
        self._metrics.build_info.info({"version": __version__, "python": platform.python_version()})

    async def run(self) -> None:
        """Tick until cancelled."""
        next_status = next_stats = 0.0
        while True:
            now = time.monotonic()
            if self._batch_age_s() > STUCK_BATCH_S:
                faulthandler.dump_traceback()  # once: where it hangs is what somebody needs
                raise RuntimeError(f"the inference thread hangs for {STUCK_BATCH_S:.0f} s")
            self._gauges()
            self._source_topics()
            self._desk.refresh()
            if now >= next_status:
                next_status = now + STATUS_INTERVAL_S
                self._desk.retained.set(self._topics.status, self._retained_status())
            if now >= next_stats and self.publisher is not None:
                next_stats = now + STATS_INTERVAL_S
                self.publisher.publish_stats(self._counters())
            await asyncio.sleep(TICK_S)

    def source_died(self, name: str, reason: str, *, degraded: bool) -> None:
        """The supervisor is about to restart it."""
        self._deaths[name] = _Death(reason, degraded)
        # The reason's text is for people; a label has to be one of few values.
        label = "degraded" if degraded else "died"
        self._metrics.source_restarts_total.labels(name, label).inc()

    def source_ended(self, name: str) -> None:
        """It has come to its end by itself."""
        self._finished.add(name)

    def forget_source(self, name: str) -> None:
        """It is no longer configured, or about to begin anew."""
        self.sources.pop(name, None)
        self._finished.discard(name)
        self._deaths.pop(name, None)
        self._desk.retained.forget(self._topics.source_state(name))
        self._desk.forget_source(name)

    def readiness(self) -> Readiness:
        up = sum(health.up for health in self._observation.sources.values())
        return Readiness(
            # The server is started after warm-up; what can still go wrong is that it hangs.
            engine_warm=self._batch_age_s() < SLOW_BATCH_S,
            sources_up=up,
            sources=len(self.sources),
            broker=self._broker(),
            draining=self.admission.draining,
        )

    def _batch_age_s(self) -> float:
        since = self._worker.stats().busy_since
        return 0.0 if since is None else time.monotonic() - since

    def _broker(self) -> str:
        if self.publisher is None:
            return "off"
        return "connected" if self.publisher.state.connected else "disconnected"

    def status(self) -> Mapping[str, Any]:
        """The whole picture, for ``/status``; call ids and addresses are not in it."""
        stats = self._worker.stats()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        outbox = self._desk.stats().outbox
        publisher = self.publisher
        return {
            **self._retained_status(),
            "uptime_s": round(time.monotonic() - self._started, 1),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
            "rss_mb": round(rss_mb(), 1),
            "audio_s": round(self._observation.audio_seconds, 1),
            "broker": {
                "state": self._broker(),
                "detail": publisher.state.reason if publisher else None,
            },
            "outbox": {"depth": outbox.depth},
            "open_alerts": len(self._desk.open_alerts()),
            "suppressed": dict(self._desk.stats().suppressed),
            "stray_events": dict(self._monitor.stray),
            "inference": {
                "submitted": stats.submitted,
                "processed": stats.processed,
                "dropped": dict(stats.dropped),
                "depth": stats.depth,
                "late": stats.late,
                "batches": stats.batches,
                "busy_s": round(stats.busy_s, 3),
                "attribution": dict(stats.attribution),
            },
            "latency_ms": self._observation.latency.as_ms(),
            "sources": {name: self._source_state(name) for name in self.sources},
            "source_counters": {name: self._source_counters(s) for name, s in self.sources.items()},
            "legs": [leg_json(leg) for leg in self._monitor.legs()],
        }

    def _retained_status(self) -> dict[str, Any]:
        reasons = []
        down = [
            name
            for name, health in self._observation.sources.items()
            if not health.up and name not in self._finished
        ]
        if down:
            reasons.append(f"source down: {', '.join(sorted(down))}")
        if self._desk.stats().outbox.degraded:
            reasons.append(str(self._desk.stats().outbox.degraded))
        if self._batch_age_s() > SLOW_BATCH_S:
            reasons.append("inference hangs or is far too slow")
        reasons += self.admission.given_up
        return {
            "version": __version__,
            **self.judging.as_json(),
            "load": round(self._load, 3),
            "capacity": {"legs": self._capacity()},
            "refusing": self.admission.refusal,
            "degraded": "; ".join(reasons) or None,
        }

    def _capacity(self) -> int | None:
        """Live legs that the inference thread would hold at the cost measured in the last seconds.

        An extrapolation from the load, not a promise; the bench measures it. None without a load.
        """
        live = sum(leg.ended is None for leg in self._monitor.legs())
        return int(live / self._load) if live and self._load > 0.001 else None

    def _source_state(self, name: str) -> dict[str, Any]:
        health = self._observation.sources.get(name)
        death = self._deaths.get(name)
        if health is None:
            return {"state": "down", "since": None, "reason": "starting"}
        if health.up:
            state, reason = "up", None
        else:
            degraded = death is not None and death.degraded
            state, reason = ("degraded" if degraded else "down"), health.reason
        return {"state": state, "since": rfc3339(health.since_utc), "reason": reason}

    def _source_topics(self) -> None:
        for name in self.sources:
            self._desk.retained.set(self._topics.source_state(name), self._source_state(name))

    @staticmethod
    def _source_counters(source: Source) -> dict[str, Any]:
        stats = source.stats()
        return {
            "received": stats.received,
            "dropped": dict(stats.dropped),
            "legs_active": stats.legs_active,
            "legs_started": stats.legs_started,
        }

    def _gauges(self) -> None:
        stats, metrics = self._worker.stats(), self._metrics
        metrics.inference_queue_depth.set(stats.depth)
        sizes = Counter(stats.batch_sizes)
        for size, count in (sizes - self._batches_before).items():
            for _ in range(count):
                metrics.batch_size.observe(size)
        self._batches_before = sizes
        hops = self._observation.hops - self._hops_before
        busy_s = stats.busy_s - self._busy_before
        self._hops_before, self._busy_before = self._observation.hops, stats.busy_s
        self._load = 0.7 * self._load + 0.3 * busy_s / TICK_S
        self.admission.observe(
            dropped=stats.dropped.get("overload", 0) + stats.late,
            backlogs=stats.backlogs,
            load=self._load,
            now=time.monotonic(),
            shed=stats.attribution.get("shed", 0),
        )
        if hops:
            metrics.realtime_factor.set(busy_s / (hops * HOP_SECONDS))
        outbox = self._desk.stats()
        metrics.mqtt_outbox_depth.set(outbox.outbox.depth)
        for (source, kind), count in outbox.alerts.items():
            metrics.advance(metrics.alerts_total, (source, kind), count)
        publisher = self.publisher
        metrics.mqtt_connected.set(publisher is not None and publisher.state.connected)
        never_sent = Counter(outbox.outbox.dropped)
        if publisher is not None:
            never_sent += publisher.stats().refused
        for kind, count in never_sent.items():
            metrics.advance(metrics.mqtt_dropped_total, (kind,), count)
        engine = self.judging.as_json()
        metrics.engine_info.info(
            {
                "detector": engine["model"]["detector"]["name"],
                "requested": engine["engine"]["requested"]["provider"],
                "effective": engine["engine"]["effective"]["provider"],
                "precision": engine["engine"]["effective"]["precision"],
            }
        )

    def _counters(self) -> dict[str, Any]:
        """For the `stats` topic."""
        stats = self._worker.stats()
        return {
            "audio_s": round(self._observation.audio_seconds, 1),
            "processed": stats.processed,
            "dropped": dict(stats.dropped),
            "legs": sum(leg.ended is None for leg in self._monitor.legs()),
            "latency_ms": self._observation.latency.as_ms(),
            "sources": {name: self._source_counters(s) for name, s in self.sources.items()},
        }


def rss_mb() -> float:
    """Resident memory now; 0 where /proc does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0
