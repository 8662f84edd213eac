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
from streamguard.bench.recording import Recording
from streamguard.bench.speech import RATE_HZ, voice
from streamguard.bench.steered import SteeredDaemon
from streamguard.clock import HOP_SECONDS, SAMPLE_RATE_HZ, WINDOW_HOPS
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
from streamguard.status import rss_mb

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FRONT_END_DELAY_MS = 1000 * (HalfBand.delay + BLOCK_SAMPLES) / SAMPLE_RATE_HZ
"""By which the samples of a hop lag those of the leg: not part of the latency."""
SOURCE = "bench"
_HOP = round(RATE_HZ * HOP_SECONDS)
_READY_S = 120.0
_SETTLE_S = 30.0
_CALM_S = 1.0
"""After legs have ended: what the fuller daemon had waiting is not the emptier one's."""
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


class FedDaemon(SteeredDaemon):
    """Takes events from the rig beside those of its sources, and remembers what came of them."""

    def __init__(self, config: Config, config_path: Path, *, share: float) -> None:
        super().__init__(config, config_path, share=share)
        self.recording = Recording(self.metrics, self._clock)
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
    """A running daemon with live legs; :meth:`trial` brings them to a count and counts what comes.

    Legs stay from one trial to the next, so that a search need not fill the daemon each time.
    """

    def __init__(self, daemon: FedDaemon, serving: asyncio.Task[None]) -> None:
        self._daemon = daemon
        self._serving = serving
        self._random = random.Random(_SEED)  # noqa: S311  # phases of legs, not a secret
        self._voice = voice()
        self._legs: dict[str, asyncio.Task[None]] = {}
        self._begun = 0
        self._has_lost = False
        """Whether the last trial left windows behind that are not whole."""

    async def trial(self, legs: int, seconds: float) -> LoadTrial:
        """``legs`` at random phases; what is counted begins when each has a full window."""
        await self._bring_to(legs)
        daemon = self._daemon
        before, cpu = daemon.stats(), time.process_time()
        thread_before, started = _thread_cpu_s("inference"), time.monotonic()
        daemon.recording.take()
        daemon.recording.is_on = True
        await self._alive(seconds)
        daemon.recording.is_on = False
        passed_s = time.monotonic() - started
        cpu_s = time.process_time() - cpu
        thread_s = _thread_cpu_s("inference") - thread_before
        after, seen = daemon.stats(), daemon.recording.take()
        batches = after.batches - before.batches
        latency, wait = exact_quantiles(seen.latencies_s), exact_quantiles(seen.waits_s)
        trial = LoadTrial(
            legs=legs,
            seconds=round(passed_s, 2),
            windows=len(seen.latencies_s),
            attributed=_more(after.attribution, before.attribution, "attributed"),
            latency_ms=latency.as_ms() if latency else None,
            batch_wait_ms=wait.as_ms() if wait else None,
            hops_dropped=_more(after.dropped, before.dropped, "overload"),
            windows_overload=seen.overload,
            attribution_shed=_more(after.attribution, before.attribution, "shed"),
            cores_used=round(cpu_s / passed_s, 3),
            inference_share=round(thread_s / passed_s, 3),
            batch_size=round((after.processed - before.processed) / max(1, batches), 2),
            rss_mb=round(rss_mb(), 1),
        )
        self._has_lost = bool(trial.hops_dropped or trial.windows_overload)
        return trial

    async def close(self) -> None:
        """End every leg."""
        await self._end(list(self._legs))

    async def _bring_to(self, count: int) -> None:
        """Begin or end legs, and wait until nothing of the change is left to be heard."""
        more = count - len(self._legs)
        if more < 0:
            # The youngest go: so the share of those that lean to spoof stays.
            await self._end(list(self._legs)[more:])
        begin = time.monotonic() + 0.05
        for _ in range(more):
            self._begun += 1
            name = str(self._begun)
            due = begin + self._random.random() * HOP_SECONDS
            self._legs[name] = asyncio.create_task(self._speak(name, due), name=f"leg {name}")
        if more > 0 or self._has_lost:
            await self._alive(begin + (WINDOW_HOPS + 1) * HOP_SECONDS - time.monotonic())
        else:
            await self._alive(_CALM_S)

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
        tasks = [self._legs.pop(name) for name in names]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        now = time.monotonic()
        for name in names:
            await self._daemon.take(LegEnded(name, EndReason.HANGUP, now))
            await self._daemon.take(CallEnded(name, EndReason.HANGUP, now))
        async with asyncio.timeout(_SETTLE_S + len(names) * 0.05):
            while self._has_more_legs():  # noqa: ASYNC110  # legs have nothing to wait on
                await asyncio.sleep(0.02)

    def _has_more_legs(self) -> bool:
        """Whether an end is still to be told; a daemon that died tells none."""
        return self._daemon.live_legs > len(self._legs) and not self._serving.done()

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
            rig = LoadRig(daemon, serving)
            try:
                yield rig
            finally:
                await rig.close()
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


def _more(after: Mapping[str, int], before: Mapping[str, int], key: str) -> int:
    return after.get(key, 0) - before.get(key, 0)


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
