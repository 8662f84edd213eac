"""How long something takes: CPU of the thread, and the clock on the wall."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import track

from streamguard.demo.report import exact_quantiles

WARM_UP = 5
LEAST_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Of one stage, per window: CPU seconds of the process and wall seconds, as measured."""

    cpu_s: float
    wall_s: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        quantiles = exact_quantiles(self.wall_s)
        return {
            "cpu_ms": round(1000 * self.cpu_s, 4),
            "latency_ms": quantiles.as_ms() if quantiles else None,
        }


def measure(console: Console, name: str, seconds: float, run: Callable[[], object]) -> StageTimes:
    """Repeat ``run`` for about ``seconds``. CPU counts the whole process: threads of a runtime
    work for the window, too."""
    for _ in range(WARM_UP):
        run()
    started = time.perf_counter()
    run()
    rounds = max(LEAST_ROUNDS, round(seconds / max(time.perf_counter() - started, 1e-5)))
    walls: list[float] = []
    cpu = time.process_time()
    bar = track(
        range(rounds),
        name.ljust(36),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    for _ in bar:
        begin = time.perf_counter()
        run()
        walls.append(time.perf_counter() - begin)
    return StageTimes((time.process_time() - cpu) / rounds, tuple(walls))
