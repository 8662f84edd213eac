"""How many legs one daemon takes over real RTP until the first is harmed; what it costs idle."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from streamguard.bench.capacity import most_legs
from streamguard.bench.machine import divided, machine, versions
from streamguard.bench.options import BenchOptions
from streamguard.bench.rtp_rig import RigQuestion, RtpRig, Trial, free_ports, most_ports
from streamguard.clock import HOP_SECONDS
from streamguard.console import say_json
from streamguard.sources.rtp_socket import allow_many_sockets

FIRST_LEGS = 64
SENDER_LATE_MS = 60.0
"""A sender that is three packets late has measured itself."""
_ALONE = 3.0
"""By which the search may take longer where nothing else is measured."""
IDLE_LEGS = 100
IDLE_S = 5.0


@dataclass(frozen=True, slots=True)
class RtpCapacity:
    """What a search found, and its trials."""

    question: RigQuestion
    trials: tuple[Trial, ...]

    unread: int
    """Packets of all trials that were sent and never read."""

    @property
    def best(self) -> Trial | None:
        held = [trial for trial in self.trials if trial.holds(self.question)]
        return max(held, key=lambda trial: trial.legs, default=None)

    @property
    def first_harmed(self) -> Trial | None:
        best = self.best
        harmed = [
            trial
            for trial in self.trials
            if not trial.holds(self.question) and (best is None or trial.legs > best.legs)
        ]
        return min(harmed, key=lambda trial: trial.legs, default=None)

    @property
    def legs_per_core(self) -> int | None:
        """Found by search, with the daemon held to one core; None where it has no core of its own
        (the sender needs another)."""
        return self.best.legs if self.best and divided()[0] else None

    def as_json(self) -> dict[str, Any]:
        best, failed = self.best, self.first_harmed
        return {
            "path": "ingest only: no network runs"
            if self.question.ingest_only
            else "the whole daemon",
            "payload": "PCMU, 20 ms, 50 packets/s per leg",
            "attributed_share": self.question.share,
            "budget_ms": None if self.question.ingest_only else self.question.budget_ms,
            "held_to_one_core": divided()[0] is not None,
            "best": asdict(best) if best else None,
            "first_harmed": asdict(failed) if failed else None,
            "legs_per_core": self.legs_per_core,
            "sender_limited": bool(failed and failed.sender_late_ms > SENDER_LATE_MS),
            "trials": len(self.trials),
            "unread": self.unread,
        }


@dataclass(frozen=True, slots=True)
class Idle:
    """Share of one core that the daemon takes where there is nothing to hear."""

    without_legs: float
    silent_legs: int
    with_silent_legs: float

    def as_json(self) -> dict[str, Any]:
        return {
            "cpu_share_without_legs": self.without_legs,
            "silent_legs": self.silent_legs,
            "cpu_share_with_silent_legs": self.with_silent_legs,
        }


def bench_rtp(options: BenchOptions, *, as_json: bool, ingest_only: bool) -> int:
    """Print the capacity over RTP alone. Raises DemoError."""
    console = Console(stderr=as_json)
    question = RigQuestion(
        options.pair(options.engines[0]),
        options.attributed_share,
        options.latency_budget_ms,
        ingest_only=ingest_only,
    )
    capacity = rtp_capacity(console, question, options.trial_s, search_s=_ALONE * options.search_s)
    report = {
        "machine": machine(),
        "versions": versions(),
        "targets": {},
        "ratios": {},
        "capacity": {
            "engine_legs": None,
            "rtp_legs": capacity.best.legs if capacity.best else 0,
            "budget_ms": 1000 * HOP_SECONDS if ingest_only else options.latency_budget_ms,
            "cores": os.cpu_count(),
            "rtp": capacity.as_json(),
        },
    }
    if as_json:
        say_json(report)
    else:
        console.print(
            f"{report['machine']['processor']}, {os.cpu_count()} cores; sender beside the daemon"
        )
        for line in rtp_lines(capacity.as_json()):
            console.print(line, highlight=False)
    return 0


def rtp_capacity(
    console: Console,
    question: RigQuestion,
    seconds: float,
    *,
    search_s: float,
    first: int = FIRST_LEGS,
) -> RtpCapacity:
    """Search with trials of ``seconds``. Raises DemoError."""
    allow_many_sockets()
    return asyncio.run(_search(console, question, seconds, search_s, first))


def measure_idle(console: Console, question: RigQuestion, seconds: float = IDLE_S) -> Idle:
    """A daemon on which nobody calls, then one with :data:`IDLE_LEGS` muted telephones."""
    allow_many_sockets()
    return asyncio.run(_idle(console, question, seconds))


def rtp_lines(rtp: dict[str, Any]) -> list[str]:
    """For people: the best trial, the first that was harmed, and the limit."""
    lines = [f"over RTP: {rtp['path']}; {rtp['payload']}"]
    for name, trial in (("best", rtp["best"]), ("first harmed", rtp["first_harmed"])):
        if trial is None:
            lines.append(f"  {name}: none")
            continue
        harm = {
            "lost": trial["lost"],
            **trial["drops"],
            "hops dropped": trial["hops_dropped"],
            "hops late": trial["hops_late"],
            "attributions shed": trial["attribution_shed"],
            "windows spoilt": trial["windows_overload"],
        }
        reasons = ", ".join(f"{k} {v}" for k, v in harm.items() if v) or "nothing given up"
        if not trial["answered"]:
            reasons = f"it did not answer any more; {reasons}"
        p99 = trial["verdict_p99_ms"]
        lines.append(
            f"  {name}: {trial['legs']} legs, {trial['sent'] / trial['seconds']:.0f} packets/s, "
            f"{100 * trial['cpu_share_per_leg']:.2f} % of a core per leg, "
            f"verdict p99 {'-' if p99 is None else f'{p99:.0f} ms'}, loop lag p99 "
            f"{trial['lag_p99_ms']:.1f} ms, windows {trial['windows_scored']} scored "
            f"{trial['windows_rejected']} rejected; {reasons}"
        )
    if rtp["legs_per_core"]:
        budget = (
            "" if rtp["budget_ms"] is None else f", verdict p99 within {rtp['budget_ms']:.0f} ms"
        )
        lines.append(
            f"  {rtp['legs_per_core']} legs on one core, nothing given up{budget}: by search, "
            "the sender on the others"
        )
    if rtp["sender_limited"]:
        lines.append("  the sender was late itself: the daemon may carry more")
    return lines


async def _search(
    console: Console, question: RigQuestion, seconds: float, search_s: float, first: int
) -> RtpCapacity:
    most = most_ports()
    trials: list[Trial] = []
    async with _rig(question, most) as rig:

        async def holds(legs: int) -> bool:
            with console.status(f"{legs} legs over RTP"):
                trials.append(await rig.trial(legs, seconds))
            return trials[-1].holds(question)

        await most_legs(holds, first, most, seconds=search_s)
        unread = await rig.unread()
    return RtpCapacity(question, tuple(trials), unread)


async def _idle(console: Console, question: RigQuestion, seconds: float) -> Idle:
    async with _rig(question, IDLE_LEGS, silent=True) as rig:
        with console.status("idle"):
            before = await rig.status()
            await asyncio.sleep(seconds)
            after = await rig.status()
        with console.status(f"{IDLE_LEGS} silent legs"):
            trial = await rig.trial(IDLE_LEGS, seconds)
    passed_s = after["uptime_s"] - before["uptime_s"]
    return Idle(
        without_legs=round((after["cpu_s"] - before["cpu_s"]) / passed_s, 4),
        silent_legs=IDLE_LEGS,
        with_silent_legs=round(trial.cpu_share_per_leg * IDLE_LEGS, 4),
    )


@asynccontextmanager
async def _rig(question: RigQuestion, most: int, *, silent: bool = False) -> AsyncIterator[RtpRig]:
    with tempfile.TemporaryDirectory(prefix="streamguard-bench-") as folder:
        rig = await RtpRig.start(Path(folder), free_ports(most), most, question, silent=silent)
        try:
            yield rig
        finally:
            await rig.stop()
