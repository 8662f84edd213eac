"""``streamguard bench --source rtp``: how many calls one process takes until the first is harmed.

The daemon runs in one process, the sender of real UDP on loopback in another. Legs are doubled
until one trial loses a packet or drops a hop twice running, then the limit is closed in on.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from streamguard.bench import machine, versions
from streamguard.clock import HOP_SECONDS
from streamguard.console import say_json
from streamguard.demo.child import Child
from streamguard.demo.legs import DemoError
from streamguard.sources.rtp_socket import allow_many_sockets
from streamguard.sources.settings import MAX_PORTS

DAEMON = "streamguard.bench_rtp_daemon"
SENDER = "streamguard.bench_rtp_sender"
FIRST_LEGS = 16
CLOSE_ENOUGH = 1.15
"""The search ends when the lowest failing count of legs is within this factor of the best."""
MOST_TRIALS = 16
WARM_UP_S = 60.0
SETTLE_S = 5.0
"""For the last packets to be read, and for legs to end after their BYE."""
SENDER_LATE_MS = 60.0
"""A sender that is three packets late has measured itself."""


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
    """Half seconds of a leg that inference did not come to."""
    hops_late: int
    """Half seconds beyond one per leg that waited when the sender stopped."""
    windows_scored: int
    windows_rejected: int
    cpu_share_per_leg: float
    """Of one core."""
    lag_p99_ms: float
    sender_late_ms: float
    sender_cpu: float
    """Share of one core that the sender took: it is beside the daemon on this machine."""

    @property
    def is_clean(self) -> bool:
        return not (self.lost or any(self.drops.values()) or self.hops_dropped or self.hops_late)


def bench_rtp(*, as_json: bool, seconds: float, ingest_only: bool) -> int:
    """Print the capacity; ``seconds`` is the length of one trial. Raises DemoError."""
    console = Console(stderr=as_json)
    allow_many_sockets()
    trials = asyncio.run(_search(console, seconds, ingest_only=ingest_only))
    report = _report(trials, ingest_only=ingest_only)
    if as_json:
        say_json(report)
    else:
        _print(console, report)
    return 0


async def _search(console: Console, seconds: float, *, ingest_only: bool) -> list[Trial]:
    most = _most_legs()
    trials: list[Trial] = []
    with (
        tempfile.TemporaryDirectory(prefix="streamguard-bench-") as folder,
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ) as progress,
    ):
        task = progress.add_task("starting", total=MOST_TRIALS)
        first_port = _free_ports(most)
        rig = await _Rig.start(Path(folder), first_port, most, ingest_only=ingest_only)
        try:
            best, worst, legs = 0, most + 1, min(FIRST_LEGS, most)
            while len(trials) < MOST_TRIALS:
                progress.update(task, description=f"{legs} legs", completed=len(trials))
                trial = await rig.trial(legs, seconds)
                trials.append(trial)
                if not trial.is_clean and len(trials) < MOST_TRIALS:
                    # Once may be somebody else's second on this machine.
                    trial = await rig.trial(legs, seconds)
                    trials.append(trial)
                if trial.is_clean:
                    best = max(best, legs)
                else:
                    worst = min(worst, legs)
                if best >= most or worst <= best * CLOSE_ENOUGH + 1:
                    break
                legs = min(most, 2 * best) if worst > most else (best + worst) // 2
        finally:
            await rig.stop()
    return trials


class _Rig:
    """A daemon on many ports, and what it says of itself."""

    def __init__(self, child: Child, http_port: int, first_port: int) -> None:
        self._child = child
        self._http_port = http_port
        self._first_port = first_port
        self._lags_ms: list[float] = []
        self._listener = asyncio.create_task(self._listen(), name="bench lags")

    @classmethod
    async def start(cls, folder: Path, first_port: int, most: int, *, ingest_only: bool) -> _Rig:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            http_port = int(probe.getsockname()[1])
        config = folder / "config.yaml"
        sections = {
            "node": "bench",
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
        options = ["--ingest-only"] if ingest_only else []
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

    async def trial(self, legs: int, seconds: float) -> Trial:
        before = await self._status()
        self._lags_ms.clear()
        sender = await Child.start(
            SENDER, "--first-port", str(self._first_port), "--legs", str(legs),
            "--seconds", f"{seconds:g}",
        )  # fmt: skip
        try:
            said = await sender.expect("sent", 4 * seconds + 30.0)
            # What is in the sockets is read within a turn of the loop, if at all.
            waiting = (await self._status())["inference"]["depth"]
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
            hops_dropped=inference[1]["dropped"].get("overload", 0)
            - inference[0]["dropped"].get("overload", 0),
            hops_late=max(0, waiting - legs),
            windows_scored=sum(leg["windows"]["scored"] for leg in live),
            windows_rejected=sum(sum(leg["windows"]["rejected"].values()) for leg in live),
            cpu_share_per_leg=round((after["cpu_s"] - before["cpu_s"]) / seconds / legs, 5),
            lag_p99_ms=round(float(np.percentile(self._lags_ms or [0.0], 99)), 2),
            sender_late_ms=said["latest_ms"],
            sender_cpu=round(said["cpu_s"] / seconds, 3),
        )

    async def _settled(self, before: Mapping[str, Any], packets: int) -> dict[str, Any]:
        """The status when every packet is read, or when waiting for the rest has no more sense."""
        received = _counters(before)["received"]
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while True:
            status = await self._status()
            seen = _counters(status)["received"] - received
            if seen >= packets or asyncio.get_running_loop().time() > deadline:
                return status
            await asyncio.sleep(0.1)

    async def _until_idle(self) -> None:
        """No call is left, and the next ones would be taken."""
        deadline = asyncio.get_running_loop().time() + 4 * SETTLE_S
        while asyncio.get_running_loop().time() < deadline:
            status = await self._status()
            if status["refusing"] is None and not any(leg["live"] for leg in status["legs"]):
                return
            await asyncio.sleep(0.1)

    async def _status(self) -> dict[str, Any]:
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


def _most_legs() -> int:
    """No more than there are ports for, and files: two sockets a leg, and one of the sender."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MAX_PORTS, max(1, (soft - 64) // 2))


def _free_ports(count: int) -> int:
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


def _report(trials: list[Trial], *, ingest_only: bool) -> dict[str, Any]:
    clean = [trial for trial in trials if trial.is_clean]
    best = max(clean, key=lambda trial: trial.legs, default=None)
    failed = min(
        (t for t in trials if not t.is_clean and (best is None or t.legs > best.legs)),
        key=lambda trial: trial.legs,
        default=None,
    )
    return {
        "machine": machine(),
        "versions": versions(),
        "targets": {},
        "ratios": {},
        "capacity": {
            "engine_legs": None,
            "rtp_legs": best.legs if best else 0,
            "budget_ms": 1000 * HOP_SECONDS,
            "cores": os.cpu_count(),
            "rtp": {
                "path": "ingest only: no network runs" if ingest_only else "the whole daemon",
                "payload": "PCMU, 20 ms, 50 packets/s per leg",
                "best": asdict(best) if best else None,
                "first_harmed": asdict(failed) if failed else None,
                "sender_limited": bool(failed and failed.sender_late_ms > SENDER_LATE_MS),
                "trials": len(trials),
            },
        },
    }


def _print(console: Console, report: Mapping[str, Any]) -> None:
    rtp = report["capacity"]["rtp"]
    facts = report["machine"]
    console.print(f"{facts['processor']}, {facts['cores']} cores; sender beside the daemon on it")
    console.print(f"path: {rtp['path']}; {rtp['payload']}")
    for name, trial in (("best", rtp["best"]), ("first harmed", rtp["first_harmed"])):
        if trial is None:
            console.print(f"{name}: none")
            continue
        harm = {"lost": trial["lost"], **trial["drops"], "hops dropped": trial["hops_dropped"]}
        harm["hops late"] = trial["hops_late"]
        reasons = ", ".join(f"{k} {v}" for k, v in harm.items() if v) or "nothing lost"
        console.print(
            f"{name}: {trial['legs']} legs, {trial['sent'] / trial['seconds']:.0f} packets/s, "
            f"{100 * trial['cpu_share_per_leg']:.2f} % of a core per leg, loop lag p99 "
            f"{trial['lag_p99_ms']:.1f} ms, windows {trial['windows_scored']} scored "
            f"{trial['windows_rejected']} rejected; {reasons}",
            highlight=False,
        )
    if rtp["sender_limited"]:
        console.print("the sender was late itself: the daemon may carry more")
    console.print(f"capacity: {report['capacity']['rtp_legs']} legs", highlight=False)
