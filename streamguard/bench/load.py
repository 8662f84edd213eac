"""Live legs at random phases through the daemon's own worker, up to the verdict.

The daemon runs in this process, on its own event loop and inference thread; in the place of sockets
this module hands it half a second of 8 kHz audio per leg when that is due. Latency counts from the
moment at which the last sample of a hop was due at the ring to the moment at which its verdict was
given, so that a late event loop counts, too. Resampling delays samples, not verdicts: it is stated
beside the figure (:data:`FRONT_END_DELAY_MS`).
"""

from __future__ import annotations

import asyncio
import random
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from streamguard.audio.level import BLOCK_SAMPLES
from streamguard.audio.resample import HalfBand
from streamguard.bench.speech import RATE_HZ, voice
from streamguard.bench.steered import SteeredDaemon
from streamguard.clock import HOP_SECONDS, SAMPLE_RATE_HZ, WINDOW_HOPS, Clock
from streamguard.config import Config, load_config
from streamguard.demo.report import exact_quantiles
from streamguard.events import (
    Audio,
    CallEnded,
    CallStarted,
    EndReason,
    LegEnded,
    LegRole,
    LegStarted,
    SourceEvent,
)
from streamguard.inference.handover import WorkerStats
from streamguard.inference.pair import PairNames
from streamguard.inference.scorer import HopResult
from streamguard.monitor import Leg
from streamguard.observe import Observation
from streamguard.status import rss_mb
from streamguard.telemetry.metrics import Metrics
from streamguard.verdict.scores import Rejection

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FRONT_END_DELAY_MS = 1000 * (HalfBand.delay + BLOCK_SAMPLES) / SAMPLE_RATE_HZ
"""By which the samples of a hop lag those of the leg: not part of the latency."""
SOURCE = "bench"
_HOP = round(RATE_HZ * HOP_SECONDS)
_READY_S = 120.0
_SETTLE_S = 5.0
_SEED = 20


@dataclass(frozen=True, slots=True)
class LoadTrial:
    """What so many legs did to the daemon; times of its process."""

    legs: int
    seconds: float
    windows: int
    attributed: int
    """Windows on which attribution has run."""
    latency_ms: Mapping[str, float] | None
    """From the last sample of a hop to its verdict."""
    batch_wait_ms: Mapping[str, float] | None
    """What of it was no work on the hop's batch: waiting for the thread, a batch and the loop."""
    hops_dropped: int
    windows_overload: int
    """Windows rejected because a hop of theirs was dropped or late."""
    attribution_shed: int
    cores_used: float
    inference_share: float
    """Of one core, by the inference thread."""
    batch_size: float
    """Mean."""
    rss_mb: float

    @property
    def attributed_share(self) -> float:
        return self.attributed / self.windows if self.windows else 0.0

    @property
    def has_lost(self) -> bool:
        """Whether audio or an attribution was given up for want of time."""
        return bool(self.hops_dropped or self.windows_overload or self.attribution_shed)

    def holds(self, budget_ms: float) -> bool:
        """Whether nothing was lost, and 99 of 100 verdicts came within the budget."""
        return (
            not self.has_lost
            and self.latency_ms is not None
            and self.latency_ms["p99"] <= budget_ms
        )

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "attributed_share": round(self.attributed_share, 3)}


class _Recording(Observation):
    """The daemon's own observer, which also remembers every latency while it is asked to."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        super().__init__(metrics, clock)
        self.is_on = False
        self.latencies_s: list[float] = []
        self.waits_s: list[float] = []
        self.overload = 0

    def begin(self) -> None:
        self.is_on = True
        self.latencies_s, self.waits_s, self.overload = [], [], 0

    def result(self, leg: Leg, result: HopResult, latency_s: float) -> None:
        super().result(leg, result, latency_s)
        if not self.is_on or result.score is None:
            return
        now_s = time.monotonic() - result.received_at
        stages = result.stages
        work_s = stages.front_end + stages.detector + stages.head + stages.attribution
        self.latencies_s.append(now_s)
        self.waits_s.append(max(0.0, now_s - work_s))
        self.overload += result.score.rejected is Rejection.OVERLOAD


class FedDaemon(SteeredDaemon):
    """Takes events from the rig beside those of its sources, and remembers what came of them."""

    def __init__(self, config: Config, config_path: Path, *, share: float) -> None:
        super().__init__(config, config_path, share=share)
        self.recording = _Recording(self.metrics, self._clock)
        self.observation = self.recording

    async def take(self, event: SourceEvent) -> None:
        await self._monitor.emit(event)

    def stats(self) -> WorkerStats:
        return self._worker.stats()

    @property
    def is_ready(self) -> bool:
        return SOURCE in self.recording.sources

    @property
    def live_legs(self) -> int:
        return sum(leg.ended is None for leg in self._monitor.legs())


class LoadRig:
    """A running daemon; :meth:`trial` gives it so many legs for a while, and takes them away."""

    def __init__(self, daemon: FedDaemon, serving: asyncio.Task[None]) -> None:
        self._daemon = daemon
        self._serving = serving
        self._random = random.Random(_SEED)  # noqa: S311  # phases of legs, not a secret
        self._voice = voice()
        self._trials = 0

    async def trial(self, legs: int, seconds: float) -> LoadTrial:
        """``legs`` at random phases; what is counted begins when each has a full window."""
        self._trials += 1
        names = [f"{self._trials}.{number}" for number in range(legs)]
        begin = time.monotonic() + 0.05
        tasks = [
            asyncio.create_task(
                self._speak(name, begin + self._random.random() * HOP_SECONDS), name=f"leg {name}"
            )
            for name in names
        ]
        try:
            await self._alive(begin + (WINDOW_HOPS + 1) * HOP_SECONDS - time.monotonic())
            before, cpu = self._daemon.stats(), time.process_time()
            thread_before, started = _thread_cpu_s("inference"), time.monotonic()
            self._daemon.recording.begin()
            await self._alive(seconds)
            self._daemon.recording.is_on = False
            passed_s = time.monotonic() - started
            cpu_s = time.process_time() - cpu
            thread_s = _thread_cpu_s("inference") - thread_before
            after, rss = self._daemon.stats(), rss_mb()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._end(names)
        batches = after.batches - before.batches
        seen = self._daemon.recording
        latency, wait = exact_quantiles(seen.latencies_s), exact_quantiles(seen.waits_s)
        return LoadTrial(
            legs=legs,
            seconds=round(passed_s, 2),
            windows=len(seen.latencies_s),
            attributed=after.attribution.get("attributed", 0)
            - before.attribution.get("attributed", 0),
            latency_ms=latency.as_ms() if latency else None,
            batch_wait_ms=wait.as_ms() if wait else None,
            hops_dropped=after.dropped.get("overload", 0) - before.dropped.get("overload", 0),
            windows_overload=seen.overload,
            attribution_shed=after.attribution.get("shed", 0) - before.attribution.get("shed", 0),
            cores_used=round(cpu_s / passed_s, 3),
            inference_share=round(thread_s / passed_s, 3),
            batch_size=round((after.processed - before.processed) / max(1, batches), 2),
            rss_mb=round(rss, 1),
        )

    async def _speak(self, name: str, first_due: float) -> None:
        """One leg: half a second when it is due, until cancelled."""
        daemon = self._daemon
        await daemon.take(CallStarted(SOURCE, name, first_due))
        started = LegStarted(SOURCE, name, name, LegRole.UNKNOWN, "PCMU", RATE_HZ, first_due)
        await daemon.take(started)
        offset = self._random.randrange(len(self._voice))
        hop = 0
        while True:
            due = first_due + (hop + 1) * HOP_SECONDS
            await asyncio.sleep(due - time.monotonic())
            await daemon.take(Audio(name, hop * _HOP, self._cut(offset + hop * _HOP), due))
            hop += 1

    def _cut(self, at: int) -> npt.NDArray[np.int16]:
        at %= len(self._voice) - _HOP
        return self._voice[at : at + _HOP]

    async def _end(self, names: list[str]) -> None:
        now = time.monotonic()
        for name in names:
            await self._daemon.take(LegEnded(name, EndReason.HANGUP, now))
            await self._daemon.take(CallEnded(name, EndReason.HANGUP, now))
        async with asyncio.timeout(_SETTLE_S + len(names) * 0.05):
            while self._daemon.live_legs:  # noqa: ASYNC110  # legs have nothing to wait on
                await asyncio.sleep(0.02)

    async def _alive(self, seconds: float) -> None:
        """Wait; raises what ended the daemon meanwhile."""
        await asyncio.wait([self._serving], timeout=max(0.0, seconds))
        if self._serving.done():
            await self._serving


@asynccontextmanager
async def running(pair: PairNames, share: float, most_legs: int) -> AsyncIterator[LoadRig]:
    """A daemon of the pair, warm; its only source of its own is a port on which nobody speaks."""
    with tempfile.TemporaryDirectory(prefix="streamguard-bench-") as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(_sections(pair, Path(folder), most_legs)), encoding="utf-8")
        daemon = FedDaemon(load_config(path), path, share=share)
        serving = asyncio.create_task(daemon.serve(), name="daemon")
        try:
            async with asyncio.timeout(_READY_S):
                while not daemon.is_ready:  # it tells nobody
                    if serving.done():
                        break
                    await asyncio.sleep(0.02)
            if serving.done():
                await serving  # raises why
            yield LoadRig(daemon, serving)
        finally:
            daemon.stop()
            await serving


def _sections(pair: PairNames, folder: Path, most_legs: int) -> dict[str, Any]:
    """What a user would write for so many legs; the rest is as it is by default."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1]) & ~1
    return {
        "node": SOURCE,
        "detector": pair.detector,
        "attribution": pair.attribution,
        "engine": pair.engine,
        "http": {"listen": None},
        "outbox": {"path": str(folder / "outbox.sqlite3")},
        "log": {"level": "error"},
        "inference": {"queue_hops_total": max(256, 4 * most_legs)},
        "sources": [{"name": SOURCE, "type": "rtp", "ports": [port]}],
    }


def _thread_cpu_s(name: str) -> float:
    """CPU time of a thread of this process; 0 where the system does not say."""
    for thread in threading.enumerate():
        if thread.name == name and thread.native_id is not None:
            try:
                with open(
                    f"/proc/self/task/{thread.native_id}/schedstat", encoding="ascii"
                ) as file:
                    return int(file.read().split()[0]) / 1e9
            except OSError:
                return 0.0
    return 0.0
