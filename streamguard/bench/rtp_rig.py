"""A daemon in a process of its own that takes RTP, and a sender of it in another.

Real UDP on loopback; what the daemon counts is read from its ``/status``.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from streamguard.demo.child import Child
from streamguard.demo.legs import DemoError
from streamguard.inference.pair import PairNames
from streamguard.sources.settings import MAX_PORTS

DAEMON = "streamguard.bench.rtp_daemon"
SENDER = "streamguard.bench.rtp_sender"
WARM_UP_S = 60.0
SETTLE_S = 5.0
"""For the last packets to be read, and for legs to end after their BYE."""


@dataclass(frozen=True, slots=True)
class RigQuestion:
    """What is to be measured."""

    pair: PairNames
    share: float
    """Legs that lean to spoof on every window."""
    ingest_only: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """One count of legs for a few seconds; times of the daemon's process alone."""

    legs: int
    seconds: float
    sent: int
    lost: int
    """Packets that were sent and never read."""
    drops: Mapping[str, int]
    """Datagrams that were read and not played, by reason."""
    hops_dropped: int
    """Half seconds of a leg that inference did not come to, or only after their deadline."""
    hops_late: int
    """Half seconds beyond one per leg that waited when the sender stopped."""
    windows_scored: int
    windows_rejected: int
    cpu_share_per_leg: float
    """Of one core."""
    lag_p99_ms: float
    verdict_p99_ms: float | None
    """From the last packet of a hop to its verdict, as the daemon tells it of its last windows."""
    sender_late_ms: float
    sender_cpu: float
    """Share of one core that the sender took: it is beside the daemon on this machine."""

    @property
    def is_clean(self) -> bool:
        return not (self.lost or any(self.drops.values()) or self.hops_dropped or self.hops_late)


class RtpRig:
    """A daemon on many ports, and what it says of itself."""

    def __init__(self, child: Child, http_port: int, first_port: int) -> None:
        self._child = child
        self._http_port = http_port
        self._first_port = first_port
        self._lags_ms: list[float] = []
        self._listener = asyncio.create_task(self._listen(), name="bench lags")

    @classmethod
    async def start(cls, folder: Path, first_port: int, most: int, question: RigQuestion) -> RtpRig:
        """On ``most`` ports from ``first_port`` on; returns when it is ready. Raises DemoError."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            http_port = int(probe.getsockname()[1])
        config = folder / "config.yaml"
        sections = {
            "node": "bench",
            "detector": question.pair.detector,
            "attribution": question.pair.attribution,
            "engine": question.pair.engine,
            "http": {"listen": f"127.0.0.1:{http_port}"},
            "outbox": {"path": str(folder / "outbox.sqlite3")},
            "log": {"level": "error"},
            "inference": {"queue_hops_total": max(256, 4 * most)},
            "sources": [
                {
                    "name": "bench",
                    "type": "rtp",
                    "ports": f"{first_port}-{first_port + 2 * most - 2}",
                    "max_legs": most,
                }
            ],
        }
        config.write_text(yaml.safe_dump(sections), encoding="utf-8")
        options = ["--share", f"{question.share:g}"]
        options += ["--ingest-only"] if question.ingest_only else []
        child = await Child.start(DAEMON, str(config), *options)
        rig = cls(child, http_port, first_port)
        try:
            async with asyncio.timeout(WARM_UP_S):
                while not await asyncio.to_thread(rig._is_ready):
                    if rig._listener.done():
                        await child.expect("ready", 5.0)  # raises what it said before it ended
                    await asyncio.sleep(0.1)
        except TimeoutError as err:
            await rig.stop()
            raise DemoError(f"the daemon was not ready within {WARM_UP_S:.0f} s") from err
        except DemoError:
            await rig.stop()
            raise
        return rig

    async def stop(self) -> None:
        self._listener.cancel()
        with suppress(asyncio.CancelledError):
            await self._listener
        await self._child.stop()

    async def trial(self, legs: int, seconds: float, *, silent: bool = False) -> Trial:
        """So many legs for so long; ``silent`` ones send digital silence."""
        before = await self.status()
        self._lags_ms.clear()
        sender = await Child.start(
            SENDER, "--first-port", str(self._first_port), "--legs", str(legs),
            "--seconds", f"{seconds:g}", *(["--silent"] if silent else []),
        )  # fmt: skip
        try:
            said = await sender.expect("sent", 4 * seconds + 30.0)
            # What is in the sockets is read within a turn of the loop, if at all.
            waiting = (await self.status())["inference"]["depth"]
            after = await self._settled(before, said["packets"])
        finally:
            await sender.stop()
        await self._until_idle()
        loud, quiet = _counters(before), _counters(after)
        drops = {
            reason: count - loud["dropped"].get(reason, 0)
            for reason, count in quiet["dropped"].items()
            if count > loud["dropped"].get(reason, 0)
        }
        live = [leg for leg in after["legs"] if leg["live"]]
        inference = (before["inference"], after["inference"])
        return Trial(
            legs=legs,
            seconds=seconds,
            sent=said["packets"],
            lost=max(0, said["packets"] - (quiet["received"] - loud["received"])),
            drops=drops,
            hops_dropped=_given_up(inference[1]) - _given_up(inference[0]),
            hops_late=max(0, waiting - legs),
            windows_scored=sum(leg["windows"]["scored"] for leg in live),
            windows_rejected=sum(sum(leg["windows"]["rejected"].values()) for leg in live),
            cpu_share_per_leg=round((after["cpu_s"] - before["cpu_s"]) / seconds / legs, 5),
            lag_p99_ms=round(float(np.percentile(self._lags_ms or [0.0], 99)), 2),
            verdict_p99_ms=after["latency_ms"].get("verdict", {}).get("p99"),
            sender_late_ms=said["latest_ms"],
            sender_cpu=round(said["cpu_s"] / seconds, 3),
        )

    async def _settled(self, before: Mapping[str, Any], packets: int) -> dict[str, Any]:
        """The status when every packet is read, or when waiting for the rest has no more sense."""
        received = _counters(before)["received"]
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while True:
            status = await self.status()
            seen = _counters(status)["received"] - received
            if seen >= packets or asyncio.get_running_loop().time() > deadline:
                return status
            await asyncio.sleep(0.1)

    async def _until_idle(self) -> None:
        """No call is left, and the next ones would be taken."""
        deadline = asyncio.get_running_loop().time() + 4 * SETTLE_S
        while asyncio.get_running_loop().time() < deadline:
            status = await self.status()
            if status["refusing"] is None and not any(leg["live"] for leg in status["legs"]):
                return
            await asyncio.sleep(0.1)

    async def status(self) -> dict[str, Any]:
        body = await asyncio.to_thread(self._get, "status")
        if body is None:
            raise DemoError("the daemon does not answer any more")
        status: dict[str, Any] = json.loads(body)
        return status

    def _is_ready(self) -> bool:
        return self._get("readyz") is not None

    def _get(self, path: str) -> bytes | None:
        url = f"http://127.0.0.1:{self._http_port}/{path}"
        try:
            with urllib.request.urlopen(url, timeout=20) as response:  # loopback
                body: bytes = response.read()
                return body
        except (urllib.error.URLError, OSError):
            return None

    async def _listen(self) -> None:
        async for line in self._child.lines():
            self._lags_ms += line["ms"]


def _counters(status: Mapping[str, Any]) -> dict[str, Any]:
    (counters,) = status["source_counters"].values()
    return dict(counters)


def _given_up(inference: Mapping[str, Any]) -> int:
    return int(inference["dropped"].get("overload", 0) + inference["late"])


def most_ports() -> int:
    """No more than there are ports for, and files: two sockets a leg, and one of the sender."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MAX_PORTS, max(1, (soft - 64) // 2))


def free_ports(count: int) -> int:
    """The first of ``2 * count`` free ports in a row; raises DemoError."""
    for first in range(20_000, 65_000 - 2 * count, 1_000):
        with ExitStack() as stack:
            try:
                for number in range(first, first + 2 * count):
                    sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    sock.bind(("127.0.0.1", number))
            except OSError:
                continue
            return first
    raise DemoError(f"no {2 * count} free UDP ports in a row")
