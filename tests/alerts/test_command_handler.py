"""Commands from an operator, through a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.alerts.broker import (
    Broker,
)
from tests.alerts.builders import TOPICS, context, desk, verdict
from tests.alerts.harness import (
    command,
    publishing,
    reading,
    result_of,
    settings,
    to_thread,
    until,
)

pytestmark = pytest.mark.peer


async def test_a_suppressed_alert_is_not_published(broker: Broker, tmp_path: Path) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    async with reading(broker.port) as reader:
        async with publishing(alerts, settings(broker.port)) as publisher:
            await until(lambda: publisher.state.connected)
            rule = {"source": "trunk", "operator": "op7", "reason": "drill", "duration_s": 60}
            await command(broker, TOPICS.suppress, rule | {"request_id": "r1"})
            result = await to_thread(result_of, reader, "r1")
            assert result["ok"] is True
            await alerts.verdict(context("a"), verdict(leg="a"))
            await alerts.verdict(context("b", source="desk"), verdict(leg="b"))
            (got,) = await to_thread(reader.alerts, 1)
    assert got.json["data"]["source"] == "desk"
    assert alerts.stats().suppressed == {"trunk": 1}


async def test_an_acknowledgement_comes_back_as_an_update(broker: Broker, tmp_path: Path) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    async with reading(broker.port) as reader:
        async with publishing(alerts, settings(broker.port)) as publisher:
            await until(lambda: publisher.state.connected)
            raised = await alerts.verdict(context(), verdict())
            assert raised is not None
            ack = {"alert_id": raised.alert_id, "operator": "op7", "note": "called back"}
            await command(broker, TOPICS.acknowledge, ack | {"request_id": "r1"})
            got = await to_thread(reader.alerts, 2)
            result = await to_thread(result_of, reader, "r1")
    assert [m.kind for m in got] == ["raised", "updated"]
    assert got[1].json["data"]["acknowledged"]["operator"] == "op7"
    assert (result["ok"], result["revision"]) == (True, 2)


async def test_bad_commands_are_answered_counted_and_change_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    # Retained from before we came: must not be obeyed at every connect.
    rule = {"source": "trunk", "operator": "op7", "reason": "old", "duration_s": 60}
    await command(broker, TOPICS.suppress, rule, "-r")
    async with publishing(alerts, settings(broker.port)) as publisher:
        await until(lambda: publisher.stats().commands == {"retained": 1})
        await command(broker, TOPICS.acknowledge, {"alert_id": "x", "operator": "y"})
        await command(broker, TOPICS.suppress, {"source": "trunk"})
        await command(broker, TOPICS.acknowledge, "x" * 5000)
        await until(lambda: publisher.stats().commands.total() == 4)
        assert publisher.stats().commands == {
            "retained": 1,
            "unknown_alert": 1,
            "field": 1,
            "too_large": 1,
        }
        assert publisher.state.connected
    assert alerts.suppressions() == ()
