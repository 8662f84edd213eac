from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from streamguard.alerts.alert import Alert
from streamguard.alerts.desk import AlertDesk
from streamguard.alerts.outbox import OutboxError
from streamguard.alerts.settings import AlertSettings
from streamguard.alerts.suppression import Field, Suppression
from streamguard.clock import VirtualClock
from streamguard.events import EndReason
from streamguard.verdict.scores import State
from tests.alerts.builders import START_UTC, TOPICS, context, desk, verdict
from tests.alerts.disks import fragile

REPOSITORY = Path(__file__).parents[2]


async def stored(alerts: Any) -> list[tuple[str, int, str | None]]:
    """(kind, revision, cleared_reason) of what waits in a desk's outbox."""
    found = []
    for message in await alerts.queued(1000):
        data = json.loads(message.payload)["data"]
        found.append((data["kind"], data["revision"], data["cleared_reason"]))
    return found


@pytest.mark.parametrize(
    ("reason", "cleared", "detail"),
    [
        (EndReason.HANGUP, "call_ended", None),
        (EndReason.INACTIVITY, "call_ended", "inactivity"),
        (EndReason.SOURCE_LOST, "source_lost", None),
        (EndReason.SHUTDOWN, "shutdown", None),
    ],
)
async def test_every_end_of_a_leg_closes_its_alert_and_says_why(
    tmp_path: Path, reason: EndReason, cleared: str, detail: str | None
) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    await alerts.verdict(context(), verdict())
    await alerts.leg_ended("leg1", reason)
    assert await stored(alerts) == [("raised", 1, None), ("cleared", 2, cleared)]
    last = (await alerts.queued(10))[-1]
    assert json.loads(last.payload)["data"]["cleared_detail"] == detail
    await alerts.close()


async def test_source_loss_model_change_and_shutdown_close_what_is_open(tmp_path: Path) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    await alerts.verdict(context("a"), verdict(leg="a"))
    await alerts.source_lost("trunk", "no route")
    await alerts.verdict(context("b"), verdict(leg="b"))
    await alerts.model_changed()
    await alerts.verdict(context("b"), verdict(leg="b", offset_s=9.0))
    await alerts.shutdown()
    reasons = [reason for kind, _, reason in await stored(alerts) if kind == "cleared"]
    assert reasons == ["source_lost", "model_changed", "shutdown"]
    assert alerts.open_alerts() == ()
    assert alerts.stats().alerts == {("trunk", "raised"): 3, ("trunk", "cleared"): 3}
    await alerts.close()


async def test_listeners_hear_every_alert_without_an_outbox() -> None:
    alerts = desk(None)
    heard: list[Alert] = []
    alerts.subscribe(heard.append)
    await alerts.start()
    await alerts.verdict(context(), verdict())
    await alerts.leg_ended("leg1", EndReason.HANGUP)
    assert [a.kind.value for a in heard] == ["raised", "cleared"]
    assert await alerts.queued(10) == []
    await alerts.close()


async def test_a_suppressed_alert_is_not_stored_but_counted(tmp_path: Path) -> None:
    clock = VirtualClock(START_UTC)
    alerts = desk(tmp_path, clock=clock)
    await alerts.start()
    rule = Suppression("r1", Field.SOURCE, "trunk", "op7", "drill", START_UTC + 60)
    await alerts.suppress(rule)
    await alerts.verdict(context(), verdict(offset_s=3.0))
    assert await stored(alerts) == []
    assert alerts.stats().suppressed == {"trunk": 1}
    clock.advance_to(61.0)
    await alerts.verdict(context(), verdict(offset_s=61.0))
    assert await stored(alerts) == [("raised", 1, None)]
    assert alerts.suppressions() == ()
    await alerts.close()


async def test_suppress_rules_are_in_force_after_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock(START_UTC)
    first = desk(tmp_path, clock=clock)
    await first.start()
    await first.suppress(Suppression("r1", Field.LEG_ROLE, "caller", "op", "x", START_UTC + 60))
    await first.close()
    second = desk(tmp_path, clock=clock)
    await second.start()
    await second.verdict(context(), verdict())
    assert second.stats().suppressed == {"trunk": 1}
    await second.close()


@pytest.mark.parametrize(
    ("field", "value", "muted"),
    [
        (Field.SOURCE, "trunk", True),
        (Field.SOURCE, "other", False),
        (Field.LEG_ROLE, "caller", True),
        (Field.LEG_ROLE, "callee", False),
        (Field.CALL_ID, "call-secret-7", True),
        (Field.CALL_ID, "call-secret", False),
        (Field.ALERT_ID, "alert1", False),
    ],
)
async def test_a_rule_mutes_what_it_names(
    tmp_path: Path, field: Field, value: str, muted: bool
) -> None:
    alerts = desk(tmp_path, clock=VirtualClock(START_UTC))
    await alerts.start()
    await alerts.suppress(Suppression("r1", field, value, "op", "x", START_UTC + 60))
    await alerts.verdict(context(), verdict())
    assert (await stored(alerts) == []) is muted
    await alerts.close()


async def test_an_acknowledgement_is_an_update_with_a_name_on_it(tmp_path: Path) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    raised = await alerts.verdict(context(), verdict())
    assert raised is not None
    assert await alerts.acknowledge(raised.alert_id, "op7", "called back") is not None
    assert await alerts.acknowledge("nobody", "op7") is None
    last = json.loads((await alerts.queued(10))[-1].payload)["data"]
    assert (last["kind"], last["acknowledged"]["operator"]) == ("updated", "op7")
    await alerts.close()


async def test_cancelling_the_caller_does_not_lose_the_alert(tmp_path: Path) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    tasks = [
        asyncio.create_task(alerts.verdict(context(f"leg{i}"), verdict(leg=f"leg{i}")))
        for i in range(20)
    ]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(await stored(alerts)) == len(alerts.open_alerts()) == 20
    await alerts.close()


async def test_the_source_verdict_is_reset_at_the_start_and_names_no_call(tmp_path: Path) -> None:
    alerts = desk(tmp_path)
    await alerts.start(sources=["trunk"])
    said = []
    for state in (None, State.SPOOF):
        if state is not None:
            await alerts.verdict(context(), verdict(state))
        value = alerts.retained.take()
        assert value is not None
        assert value[0] == TOPICS.source_verdict("trunk")
        assert b"call-secret" not in value[1]
        said.append(json.loads(value[1])["state"])
    assert said == ["UNKNOWN", "SPOOF"]
    await alerts.close()


async def test_interrupted_alerts_are_closed_at_the_next_start(tmp_path: Path) -> None:
    """A process that is killed with kill -9 after its write loses nothing."""
    script = textwrap.dedent(
        """
        import asyncio, os, signal, sys
        from pathlib import Path
        from streamguard.events import EndReason
        from tests.alerts.builders import context, desk, verdict

        async def main():
            alerts = desk(Path(sys.argv[1]))
            await alerts.start()
            await alerts.verdict(context("a"), verdict(leg="a"))
            await alerts.verdict(context("b"), verdict(leg="b"))
            await alerts.leg_ended("b", EndReason.HANGUP)
            await alerts.verdict(context("a"), verdict(leg="a", offset_s=9.0, llr=9.0))
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
        """
    )
    killed = await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-c", script, tmp_path),
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    alerts = desk(tmp_path)
    assert await alerts.start() == 1
    assert await stored(alerts) == [
        ("raised", 1, None),
        ("raised", 1, None),
        ("cleared", 2, "call_ended"),
        ("updated", 2, None),
        ("cleared", 3, "shutdown"),
    ]
    last = json.loads((await alerts.queued(10))[-1].payload)["data"]
    assert last["leg"] == "a"
    assert last["cleared_detail"].startswith("interrupted")
    await alerts.close()
    again = desk(tmp_path)
    assert await again.start() == 0
    await again.close()


async def test_raising_on_suspect_is_a_setting(tmp_path: Path) -> None:
    alerts = desk(tmp_path, AlertSettings(raise_on_suspect=True))
    await alerts.start()
    assert await alerts.verdict(context(), verdict(State.SUSPECT)) is not None
    await alerts.close()


async def test_a_source_that_is_no_longer_configured_leaves_no_verdict_behind(
    tmp_path: Path,
) -> None:
    alerts = desk(tmp_path)
    await alerts.start(["trunk", "desk"])
    alerts.watch_source("late")
    alerts.watch_source("desk")
    topics = [TOPICS.source_verdict(name) for name in ("trunk", "desk", "late")]
    assert [alerts.retained.take() is not None for _ in topics] == [True] * 3
    assert alerts.retained.take() is None, "a source that is watched already is not reset"
    await alerts.verdict(context(source="desk"), verdict())
    await alerts.leg_ended("leg1", EndReason.SHUTDOWN)
    alerts.forget_source("desk")
    await alerts.shutdown()
    said = dict(iter(alerts.retained.take, None))
    assert said[TOPICS.source_verdict("desk")] == b"", "taken off, and not said again at the end"
    await alerts.close()


def said_of(alerts: AlertDesk, source: str) -> dict[str, Any] | None:
    """What is to be published of a source, if anything is."""
    values = dict(iter(alerts.retained.take, None))
    payload = values.get(TOPICS.source_verdict(source))
    return None if payload is None else json.loads(payload)


async def test_the_source_verdict_does_not_expire_while_its_call_is_silent() -> None:
    clock = VirtualClock(START_UTC)
    alerts = desk(None, clock=clock)
    await alerts.start(["trunk"])
    await alerts.verdict(context(), verdict())
    first = said_of(alerts, "trunk")
    clock.advance_to(20.0)
    alerts.refresh()
    assert said_of(alerts, "trunk") is None
    clock.advance_to(31.0)
    alerts.refresh()
    again = said_of(alerts, "trunk")
    assert first is not None
    assert again is not None
    assert (again["state"], again["since"]) == ("SPOOF", first["since"])
    assert again["expires_at"] > first["expires_at"]


async def test_after_a_model_change_nothing_is_said_of_a_source_until_it_is_judged_again() -> None:
    alerts = desk(None)
    await alerts.start(["trunk"])
    await alerts.verdict(context(), verdict())
    await alerts.model_changed()
    said = said_of(alerts, "trunk")
    assert said is not None
    assert (said["state"], said["legs"]) == ("UNKNOWN", 1)


async def test_a_verdict_of_before_a_model_change_raises_nothing_after_it(tmp_path: Path) -> None:
    clock = VirtualClock(START_UTC)
    alerts = desk(tmp_path, clock=clock)
    await alerts.start()
    await alerts.suppress(Suppression("r1", Field.SOURCE, "other", "op", "x", START_UTC + 60))
    clock.advance_to(61.0)
    # The rule has run out: striking it off the disk takes a while.
    before = asyncio.create_task(alerts.verdict(context(), verdict(offset_s=61.0)))
    await asyncio.sleep(0)
    await alerts.model_changed()
    await before
    assert alerts.open_alerts() == ()
    assert await stored(alerts) == [("raised", 1, None), ("cleared", 2, "model_changed")]
    assert alerts.suppressions() == ()
    await alerts.close()


async def test_storage_that_fails_loses_no_alert_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = fragile(monkeypatch)
    alerts = desk(tmp_path, clock=VirtualClock(START_UTC))
    await alerts.start()
    await alerts.verdict(context("a"), verdict(leg="a"))
    (first,) = await alerts.queued(10)
    disk.broken = True
    await alerts.verdict(context("b"), verdict(leg="b"))
    await alerts.leg_ended("a", EndReason.HANGUP)
    await alerts.delivered(first.seq)
    (open_alert,) = alerts.open_alerts()
    await alerts.acknowledge(open_alert.alert_id, "op")
    await alerts.suppress(Suppression("r1", Field.SOURCE, "x", "op", "x", START_UTC + 60))
    await alerts.queued(10)
    await alerts.model_changed()
    assert alerts.stats().outbox.degraded is not None
    assert alerts.stats().open_alerts == 0
    disk.broken = False
    assert await stored(alerts) == [
        ("raised", 1, None),
        ("cleared", 2, "call_ended"),
        ("cleared", 3, "model_changed"),
    ]
    await alerts.verdict(context("c"), verdict(leg="c"))
    assert alerts.stats().outbox.degraded is None
    await alerts.close()


async def test_an_outbox_that_cannot_be_read_at_the_start_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = fragile(monkeypatch)
    disk.unreadable = True
    with pytest.raises(OutboxError, match="cannot be read: disk I/O error"):
        await desk(tmp_path).start()
