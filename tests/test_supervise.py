"""The supervisor: restarts what dies, slows down, and leaves defects alone."""

from __future__ import annotations

import asyncio

import pytest

from streamguard.clock import SystemClock
from streamguard.errors import SourceError
from streamguard.supervise import RestartPolicy, Supervisor

QUICK = RestartPolicy(first_delay_s=0.001, max_delay_s=0.004, burst=3, burst_window_s=60.0)


class Mortal:
    """Dies a number of times, then finishes."""

    def __init__(self, deaths: int, error: Exception | None = None) -> None:
        self.deaths = deaths
        self.error = error or SourceError("trunk", "unplugged")
        self.runs = 0
        self.told: list[tuple[str, bool]] = []
        self.died = asyncio.Event()

    async def run(self) -> None:
        self.runs += 1
        if self.runs <= self.deaths:
            raise self.error

    async def down(self, reason: str, degraded: bool) -> None:
        self.told.append((reason, degraded))
        self.died.set()


def supervisor(mortal: Mortal, policy: RestartPolicy = QUICK) -> Supervisor:
    return Supervisor("trunk", mortal.run, mortal.down, SystemClock(), policy)


async def test_a_source_that_ends_by_itself_is_not_restarted() -> None:
    mortal = Mortal(deaths=0)
    await supervisor(mortal).serve()
    assert mortal.runs == 1
    assert mortal.told == []


async def test_a_source_that_dies_is_restarted_and_each_death_is_told() -> None:
    mortal = Mortal(deaths=2)
    watched = supervisor(mortal)
    await watched.serve()
    assert mortal.runs == 3
    assert watched.restarts == 2
    assert [reason for reason, _ in mortal.told] == ["source trunk: unplugged"] * 2


async def test_a_source_that_keeps_dying_is_degraded_after_the_burst() -> None:
    mortal = Mortal(deaths=4)
    await supervisor(mortal).serve()
    assert [degraded for _, degraded in mortal.told] == [False, False, True, True]


async def test_a_defect_is_not_hidden_by_a_restart() -> None:
    mortal = Mortal(deaths=1, error=ZeroDivisionError("a defect"))
    with pytest.raises(ZeroDivisionError):
        await supervisor(mortal).serve()
    assert mortal.runs == 1


async def test_an_error_of_the_operating_system_is_a_death() -> None:
    mortal = Mortal(deaths=1, error=OSError(98, "Address already in use"))
    await supervisor(mortal).serve()
    assert "Address already in use" in mortal.told[0][0]


async def test_a_cancelled_supervisor_stops_at_once() -> None:
    mortal = Mortal(deaths=1)
    slow = RestartPolicy(first_delay_s=60.0)
    task = asyncio.create_task(supervisor(mortal, slow).serve())
    await mortal.died.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_delays_grow_to_the_cap_and_are_spread() -> None:
    policy = RestartPolicy(first_delay_s=1.0, max_delay_s=30.0)
    watched = supervisor(Mortal(0), policy)
    for attempt in range(1, 20):
        ceiling = min(30.0, 2.0 ** (attempt - 1))
        delays = {watched.delay_s(attempt, degraded=False) for _ in range(20)}
        assert len(delays) > 1
        assert all(ceiling / 2 <= delay <= ceiling for delay in delays)
    assert watched.delay_s(1, degraded=True) == 30.0
