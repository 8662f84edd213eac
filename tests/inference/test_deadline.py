"""A window that comes too late is counted and not used; a recording is never late."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamguard.inference.leg import HopKind
from streamguard.inference.settings import InferenceSettings
from streamguard.verdict.scores import Rejection
from tests.inference.makers import block
from tests.inference.worker_rig import Results, real_scorer, running, until

SETTINGS = InferenceSettings(deadline_ms=1000.0, queue_hops_per_leg=16, max_wait_ms=1.0)
# Hop 5, which makes the first window, has come after 2.5 s.


@pytest.mark.parametrize(("now_s", "late"), [(3.5, 0), (3.6, 1), (4.1, 2), (9.0, 3)])
async def test_late_windows_of_a_live_leg_are_rejected_as_overload_and_counted(
    now_s: float, late: int
) -> None:
    results = Results()
    async with running(real_scorer, results, SETTINGS, now_s) as worker:
        for hop in range(8):
            worker.submit_nowait(block("a", hop))
        await until(lambda: worker.stats().processed == 8)
        await worker.close_leg("a")
        assert worker.stats().late == late
    scores = [result.score for result in results if result.score is not None]
    said = [score.rejected for score in scores]
    assert said == [Rejection.OVERLOAD] * late + [None] * (3 - late)
    assert all(score.new_hops == 0 for score in scores[:late])


async def test_a_recording_has_no_deadline() -> None:
    results = Results()
    async with running(real_scorer, results, SETTINGS, 1e6) as worker:
        for hop in range(8):
            await worker.submit(block("a", hop))
        await worker.close_leg("a")
        assert worker.stats().late == 0
    assert [r.score.rejected for r in results if r.score is not None] == [None] * 3


async def test_the_rest_of_a_short_segment_is_not_late_for_the_hold_behind_it() -> None:
    results = Results()
    async with running(real_scorer, results, SETTINGS, 32.0) as worker:
        for hop in range(3):
            worker.submit_nowait(block("a", hop))
        # Half a minute later the call goes on, as a new segment.
        worker.submit_nowait(replace(block("a", 60, segment=1), received_at=31.9))
        await until(lambda: worker.stats().processed == 4)
        await worker.close_leg("a")
        assert worker.stats().late == 0
    rest = next(result for result in results if result.kind is HopKind.REST)
    assert rest.score is not None
    assert rest.score.rejected is None
