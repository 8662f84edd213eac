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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from streamguard.bench.machine import cores_option, divided
from streamguard.bench.rtp_sender import PACKET_S, START
from streamguard.clock import HOP_SECONDS, WINDOW_HOPS
from streamguard.demo.child import Child
from streamguard.demo.legs import DemoError
from streamguard.inference.pair import PairNames
from streamguard.sources.settings import MAX_PORTS

DAEMON = "streamguard.bench.rtp_daemon"
SENDER = "streamguard.bench.rtp_sender"
WARM_UP_S = 60.0
SETTLE_S = 5.0
"""For the last packets to be read."""
SAYS_S = 10.0
FULL_S = (WINDOW_HOPS + 1) * HOP_SECONDS + START * PACKET_S
"""After legs have begun: each has a full window then."""
CALM_S = 1.0
"""After legs have ended: what the fuller daemon had waiting is not the emptier one's."""
ANSWERS_S = 5.0
"""A daemon that says nothing for longer does not hold its legs."""
RECOVERS_S = 60.0
REFUSES_S = 15.0


@dataclass(frozen=True, slots=True)
class RigQuestion:
    """What is to be measured."""

    pair: PairNames
    share: float
    """Legs that lean to spoof."""
    budget_ms: float
    ingest_only: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """One count of legs for a few seconds; times of the daemon's process alone."""

    legs: int
    answered: bool
    """Whether it said how it is within some seconds."""
    seconds: float
    sent: int
    lost: int
    """Packets of 20 ms whose audio never came, or that the kernel dropped unread."""
    drops: Mapping[str, int]
    """Datagrams that were read and not played, by reason."""
    hops_dropped: int
    """Half seconds of a leg that inference did not come to, or only after their deadline."""
    hops_late: int
    """Half seconds beyond one per leg that waited at the end."""
    attribution_shed: int
    windows_overload: int
    """Windows rejected because a hop of theirs was dropped or late."""
    windows_scored: int
    windows_rejected: int
    cpu_share_per_leg: float
    """Of one core."""
    lag_p99_ms: float
    verdict_p99_ms: float | None
    """From the last packet of a hop to its verdict; None where there was no verdict."""
    sender_late_ms: float
    sender_cpu: float
    """Share of one core that the sender took: it is beside the daemon on this machine."""

    @property
    def is_clean(self) -> bool:
        """Whether it answered, and no packet, no hop and no attribution was given up."""
        given_up = self.hops_dropped or self.windows_overload or self.attribution_shed
        lost = self.lost or any(self.drops.values())
        return self.answered and not (lost or given_up or self.hops_late)

    def holds(self, question: RigQuestion) -> bool:
        """Whether nothing was given up, and 99 of 100 verdicts came within the budget."""
        if question.ingest_only:
            return self.is_clean
        p99 = self.verdict_p99_ms
        return self.is_clean and p99 is not None and p99 <= question.budget_ms


class Sender(Child):
    """``rtp_sender`` as its parent sees it."""

    async def say(self, legs: int) -> dict[str, Any]:
        """So many are to speak; what it sent so far. Raises DemoError."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{legs}\n".encode())
        await self._process.stdin.drain()
        return await self.expect("sent", SAYS_S)


@dataclass(slots=True)
class _Heard:
    """What the daemon told of its windows."""

    lags_ms: list[float] = field(default_factory=list)
    verdicts_ms: list[float] = field(default_factory=list)
    rejected: int = 0
    overload: int = 0
    lost_s: float = 0.0


class RtpRig:
    """A daemon on many ports with live legs; :meth:`trial` brings them to a count."""

    def __init__(self, child: Child, http_port: int, sender: Sender) -> None:
        self._child = child
        self._http_port = http_port
        self._sender = sender
        self._legs = 0
        self._is_ill = False
        """Whether the last trial left something behind that is not whole."""
        self._heard = _Heard()
        self._listener = asyncio.create_task(self._listen(), name="bench listener")

    @classmethod
    async def start(
        cls,
        folder: Path,
        first_port: int,
        most: int,
        question: RigQuestion,
        *,
        silent: bool = False,
    ) -> RtpRig:
        """On ``most`` ports from ``first_port`` on; returns when it is ready. Raises DemoError.

        ``silent``: legs send digital silence.
        """
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
        measured, driving = divided()
        child = await Child.start(DAEMON, str(config), *options, *cores_option(measured))
        sender = await Sender.start(
            SENDER, "--first-port", str(first_port), "--most", str(most),
            *(["--silent"] if silent else []), *cores_option(driving),
        )  # fmt: skip
        rig = cls(child, http_port, sender)
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
        await self._sender.stop()
        self._listener.cancel()
        with suppress(asyncio.CancelledError):
            await self._listener
        await self._child.stop()

    async def trial(self, legs: int, seconds: float) -> Trial:
        """So many legs; what is counted begins when each has a full window."""
        await self._bring_to(legs)
        before, said = await self._status_now(), await self._sender.say(legs)
        self._heard = _Heard()
        await asyncio.sleep(seconds)
        heard = self._heard
        says, after = await self._sender.say(legs), await self._status_now()
        answered = self._legs == legs
        passed_s = after["uptime_s"] - before["uptime_s"]
        quiet, loud = _counters(before)["dropped"], _counters(after)["dropped"]
        drops = {reason: _more(loud, quiet, reason) for reason in loud}
        verdicts = heard.verdicts_ms
        trial = Trial(
            legs=legs,
            answered=answered,
            seconds=round(passed_s, 2),
            sent=says["packets"] - said["packets"],
            lost=round(heard.lost_s / PACKET_S) + drops.pop("kernel", 0),
            drops={reason: count for reason, count in drops.items() if count},
            hops_dropped=_given_up(after["inference"]) - _given_up(before["inference"]),
            hops_late=max(0, after["inference"]["depth"] - legs),
            attribution_shed=_more(_attribution(after), _attribution(before), "shed"),
            windows_overload=heard.overload,
            windows_scored=len(verdicts) - heard.rejected,
            windows_rejected=heard.rejected,
            cpu_share_per_leg=round((after["cpu_s"] - before["cpu_s"]) / passed_s / legs, 5),
            lag_p99_ms=round(float(np.percentile(heard.lags_ms or [0.0], 99)), 2),
            verdict_p99_ms=round(float(np.percentile(verdicts, 99)), 2) if verdicts else None,
            sender_late_ms=says["latest_ms"],
            sender_cpu=round((says["cpu_s"] - said["cpu_s"]) / passed_s, 3),
        )
        lost = trial.lost or trial.hops_dropped or trial.windows_overload
        self._is_ill = bool(lost or not answered)
        return trial

    async def unread(self) -> int:
        """Let every leg end; packets that were sent and never read, since the start."""
        says = await self._sender.say(0)
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while True:
            received = int(_counters(await self.status())["received"])
            if received >= says["packets"] or asyncio.get_running_loop().time() > deadline:
                return max(0, int(says["packets"]) - received)
            await asyncio.sleep(0.1)

    async def _bring_to(self, legs: int) -> None:
        more, self._legs = legs - self._legs, legs
        if more > 0:
            await self._takes_calls()
        await self._sender.say(legs)
        await asyncio.sleep(FULL_S if more > 0 or self._is_ill else CALM_S)

    async def _takes_calls(self) -> None:
        """A daemon that was overloaded refuses calls for a while."""
        deadline = asyncio.get_running_loop().time() + REFUSES_S
        while asyncio.get_running_loop().time() < deadline:
            if (await self.status())["refusing"] is None:
                return
            await asyncio.sleep(0.2)

    async def _status_now(self) -> dict[str, Any]:
        """The status; where it does not come, all legs end first. Raises DemoError."""
        body = await asyncio.to_thread(self._get, "status", ANSWERS_S)
        if body is not None:
            found: dict[str, Any] = json.loads(body)
            return found
        self._legs = 0
        await self._sender.say(0)
        return await self.status()

    async def status(self) -> dict[str, Any]:
        """Raises DemoError."""
        body = await asyncio.to_thread(self._get, "status")
        if body is None:
            raise DemoError("the daemon does not answer any more")
        status: dict[str, Any] = json.loads(body)
        return status

    def _is_ready(self) -> bool:
        return self._get("readyz") is not None

    def _get(self, path: str, timeout_s: float = RECOVERS_S) -> bytes | None:
        url = f"http://127.0.0.1:{self._http_port}/{path}"
        try:
            with urllib.request.urlopen(url, timeout=timeout_s) as response:  # loopback
                body: bytes = response.read()
                return body
        except (urllib.error.URLError, OSError):
            return None

    async def _listen(self) -> None:
        async for line in self._child.lines():
            heard = self._heard
            heard.lags_ms += line["lags_ms"]
            heard.verdicts_ms += line["verdicts_ms"]
            heard.rejected += line["rejected"]
            heard.overload += line["overload"]
            heard.lost_s += line["lost_s"]


def _counters(status: Mapping[str, Any]) -> dict[str, Any]:
    (counters,) = status["source_counters"].values()
    return dict(counters)


def _given_up(inference: Mapping[str, Any]) -> int:
    return int(inference["dropped"].get("overload", 0) + inference["late"])


def _attribution(status: Mapping[str, Any]) -> Mapping[str, int]:
    found: Mapping[str, int] = status["inference"].get("attribution") or {}
    return found


def _more(after: Mapping[str, int], before: Mapping[str, int], key: str) -> int:
    return after.get(key, 0) - before.get(key, 0)


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
