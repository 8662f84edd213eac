"""What the demo makes of the alerts that its subscriber reads back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from rich.console import Console

from streamguard.alerts.schema import rfc3339
from streamguard.demo.main import DemoRun
from streamguard.demo.subscriber import Received
from streamguard.demo.table import LiveView

SPOKEN_UTC = 1_800_000_000.0


def received(kind: str, after_s: float, **more: Any) -> Received:
    data = {
        "alert_id": "a1",
        "revision": 1,
        "kind": kind,
        "state": "SPOOF",
        "stream_offset_s": 3.0,
        "source": "desk",
        "last_seen": rfc3339(SPOKEN_UTC),
    }
    return Received("t", {"data": data | more}, False, 0.0, SPOKEN_UTC + after_s)


async def heard(*messages: Received) -> DemoRun:
    async def each() -> AsyncIterator[Received]:
        for message in messages:
            yield message

    console = Console(quiet=True)
    run = DemoRun([], console)
    await run._listen(each(), LiveView(console))
    return run


async def test_latency_is_from_the_last_sample_to_the_subscriber_for_all_but_the_end() -> None:
    run = await heard(received("raised", 0.02), received("updated", 0.03), received("cleared", 9.0))
    assert run.subscriber_s == pytest.approx([0.02, 0.03], abs=1e-6)
    assert [alert.kind for alert in run.alerts["desk"]] == ["raised", "updated", "cleared"]


async def test_an_alert_from_before_its_last_sample_is_shown_and_not_hidden() -> None:
    """That would be a wrong clock: a latency of 0 in its place would look like a fast one."""
    run = await heard(received("raised", -0.015))
    assert run.subscriber_s == pytest.approx([-0.015], abs=1e-6)


async def test_what_is_not_an_alert_is_told_and_passed_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = await heard(Received("t", "text", False, 0.0, 0.0), received("raised", 0.02))
    assert "not an alert of ours: t" in capsys.readouterr().err
    assert len(run.subscriber_s) == 1
