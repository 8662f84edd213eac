"""The publisher against a real mosquitto, read by mosquitto_sub."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from streamguard.alerts.publisher import Publisher
from streamguard.clock import SystemClock
from streamguard.verdict.scores import State
from tests.alerts.broker import (
    Broker,
    free_port,
)
from tests.alerts.builders import TOPICS, context, desk, verdict
from tests.alerts.cable import cable
from tests.alerts.harness import (
    availability,
    call,
    publishing,
    reading,
    settings,
    to_thread,
    until,
)

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.peer


async def test_an_alert_reaches_mosquitto_sub_as_raised_updated_cleared(
    broker: Broker, tmp_path: Path
) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    async with reading(broker.port) as reader:
        async with publishing(alerts, settings(broker.port)) as publisher:
            await until(lambda: publisher.state.connected)
            await call(alerts, "leg1")
            got = await to_thread(reader.alerts, 3)
            assert publisher.state.reason == "MQTT 5"
            # The reader may have a message before we have the broker's word that it took it.
            await until(lambda: publisher.stats().published.total() == 3)
            assert publisher.stats().published == {"raised": 1, "updated": 1, "cleared": 1}
    assert [m.kind for m in got] == ["raised", "updated", "cleared"]
    assert [m.key[1] for m in got] == [1, 2, 3]
    for message in got:
        assert message.topic == "streamguard/node1/source/trunk/alert"
        assert not message.retained
        assert message.content_type == "application/cloudevents+json"
        assert "delayed" not in message.user_properties
        assert message.json["type"] == f"io.streamguard.alert.{message.kind}.v1"
    assert alerts.stats().outbox.depth == 0


async def test_a_broker_absent_at_boot_gets_everything_once_it_is_there(
    broker: Broker, tmp_path: Path
) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    # The broker must know the reader's session before the publisher finds the broker.
    async with reading(broker.port) as reader:
        await to_thread(broker.stop)
        async with publishing(alerts, settings(broker.port)) as publisher:
            await until(lambda: publisher.state.attempts >= 3)
            await call(alerts, "leg1")
            assert not publisher.state.connected
            await to_thread(broker.start)
            got = await to_thread(reader.alerts, 3)
            await until(lambda: publisher.stats().delayed == 3)
    assert [m.kind for m in got] == ["raised", "updated", "cleared"]
    assert all("delayed:true" in m.user_properties for m in got)


async def test_a_broker_that_goes_and_comes_back_gets_every_alert_once_and_in_order(
    broker: Broker, tmp_path: Path
) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    async with reading(broker.port) as reader:
        async with publishing(alerts, settings(broker.port)) as publisher:
            await until(lambda: publisher.state.connected)
            await call(alerts, "before")
            await to_thread(reader.alerts, 3)
            # Or the broker, not we, would send again what the reader has not acknowledged to it.
            await to_thread(reader.settle)
            await to_thread(broker.stop)
            await until(lambda: not publisher.state.connected)
            for number in range(10):
                await call(alerts, f"during{number}")
            await to_thread(broker.start)
            await until(lambda: publisher.state.connected and alerts.stats().outbox.depth == 0)
            await call(alerts, "after")
            await to_thread(reader.alerts, 36)
        got = [m for m in await to_thread(reader.settle) if m.topic.endswith("/alert")]
    assert [m.json["data"]["leg"] for m in got[::3]] == [
        "before",
        *(f"during{n}" for n in range(10)),
        "after",
    ]
    assert [m.kind for m in got] == ["raised", "updated", "cleared"] * 12
    assert len({m.key for m in got}) == 36
    late = ["delayed:true" in m.user_properties for m in got]
    assert late == [False] * 3 + [True] * 30 + [False] * 3


async def test_a_broker_that_answers_nothing_any_more_is_left_and_found_again(
    broker: Broker, tmp_path: Path
) -> None:
    """An acknowledgement that never came: the same id and revision again, on a new connection."""
    alerts = desk(tmp_path)
    await alerts.start()
    async with reading(broker.port) as reader:
        async with publishing(alerts, settings(broker.port, timeout_s=0.5)) as publisher:
            await until(lambda: publisher.state.connected)
            broker.freeze()
            await call(alerts, "leg1")
            await until(lambda: not publisher.state.connected)
            broker.thaw()
            await until(lambda: alerts.stats().outbox.depth == 0)
            await to_thread(reader.alerts, 3)
        got = [m for m in await to_thread(reader.settle) if m.topic.endswith("/alert")]
    newest: dict[str, int] = {}
    kept = []
    for message in got:
        alert_id, revision = message.key
        if revision > newest.get(alert_id, 0):
            newest[alert_id] = revision
            kept.append(message.kind)
    assert kept == ["raised", "updated", "cleared"]


async def test_alerts_of_a_killed_process_are_delivered_by_the_next(
    broker: Broker, tmp_path: Path
) -> None:
    """kill -9 while the broker is away; the interrupted call is closed as such."""
    script = textwrap.dedent(
        """
        import asyncio, os, signal, sys
        from pathlib import Path
        from tests.alerts.builders import context, desk, verdict
        from tests.alerts.harness import call, publishing, settings

        async def main():
            alerts = desk(Path(sys.argv[1]))
            await alerts.start()
            async with publishing(alerts, settings(int(sys.argv[2]))):
                await call(alerts, "done")
                await alerts.verdict(context("open"), verdict(leg="open"))
                os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
        """
    )
    killed = await to_thread(
        subprocess.run,
        (sys.executable, "-c", script, tmp_path, str(free_port())),
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
    )
    assert killed.returncode == -9, killed.stderr
    alerts = desk(tmp_path)
    assert await alerts.start() == 1
    async with reading(broker.port) as reader:
        async with publishing(alerts, settings(broker.port)):
            got = await to_thread(reader.alerts, 5)
    assert [(m.json["data"]["leg"], m.kind) for m in got] == [
        ("done", "raised"),
        ("done", "updated"),
        ("done", "cleared"),
        ("open", "raised"),
        ("open", "cleared"),
    ]
    assert got[-1].json["data"]["cleared_reason"] == "shutdown"
    assert all("delayed:true" in m.user_properties for m in got)


async def test_a_clean_exit_says_offline_itself(broker: Broker, tmp_path: Path) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    async with reading(broker.port, TOPICS.availability) as reader:
        async with publishing(alerts, settings(broker.port, will_delay_s=300)) as publisher:
            await to_thread(reader.wait_for, lambda got: availability(got) == ["online"])
        assert publisher.state.reason == "stopped"
        got = await to_thread(reader.settle)
        assert availability(got) == ["online", "offline"]


async def test_cancelling_the_publisher_still_says_offline(broker: Broker, tmp_path: Path) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    publisher = Publisher(settings(broker.port, will_delay_s=300), TOPICS, alerts, SystemClock())
    async with reading(broker.port, TOPICS.availability) as reader:
        task = asyncio.create_task(publisher.run())
        await to_thread(reader.wait_for, lambda got: availability(got) == ["online"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await to_thread(reader.wait_for, lambda got: availability(got) == ["online", "offline"])
    await alerts.close()


async def test_an_unclean_death_is_told_by_the_will(broker: Broker) -> None:
    script = textwrap.dedent(
        """
        import asyncio, os, signal, sys
        from tests.alerts.builders import desk
        from tests.alerts.harness import publishing, settings, until

        async def main():
            alerts = desk(None)
            async with publishing(alerts, settings(int(sys.argv[1]))) as publisher:
                await until(lambda: publisher.state.connected)
                os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
        """
    )
    async with reading(broker.port, TOPICS.availability) as reader:
        killed = await to_thread(
            subprocess.run,
            (sys.executable, "-c", script, str(broker.port)),
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
        )
        assert killed.returncode == -9, killed.stderr
        await to_thread(reader.wait_for, lambda got: availability(got) == ["online", "offline"])


async def test_a_short_break_does_not_make_availability_flap(broker: Broker) -> None:
    """MQTT 5: coming back to the same session within the delay calls the will off."""
    async with reading(broker.port) as reader, cable(broker.port) as line:
        mqtt = settings(line.port, will_delay_s=1)
        async with publishing(desk(None), mqtt) as publisher:
            await until(lambda: publisher.state.connected)
            await line.cut()
            await until(lambda: publisher.stats().connections == 2)
            got = await to_thread(reader.settle, 1.5)
    assert availability(got) == ["online", "online"]


async def test_state_is_retained_said_again_after_a_restart_and_names_no_call(
    broker: Broker, tmp_path: Path
) -> None:
    alerts = desk(tmp_path)
    await alerts.start(sources=["trunk"])
    alerts.retained.set(TOPICS.status, {"version": "0.1.0"})
    alerts.retained.set(TOPICS.source_state("trunk"), {"state": "up"})
    async with publishing(alerts, settings(broker.port)) as publisher:
        await until(lambda: publisher.state.connected)
        await alerts.verdict(context(), verdict(State.SPOOF))
        await to_thread(broker.stop)
        await to_thread(broker.forget)
        await to_thread(broker.start)
        await until(lambda: publisher.state.connected and publisher.stats().connections == 2)
        await until(lambda: alerts.stats().outbox.depth == 0)
        # A new subscriber is sent what is retained, and only that.
        async with reading(broker.port) as late:
            got = await to_thread(late.wait_for, lambda got: len(got) >= 4)
    assert {m.topic for m in got if m.retained} == {
        TOPICS.availability,
        TOPICS.status,
        TOPICS.source_state("trunk"),
        TOPICS.source_verdict("trunk"),
    }
    (said,) = [m for m in got if m.topic == TOPICS.source_verdict("trunk")]
    assert said.json["state"] == "SPOOF"
    assert not any("call-secret" in m.topic + m.payload for m in got if m.retained)


async def test_stats_are_sent_and_not_retained(broker: Broker) -> None:
    alerts = desk(None)
    async with reading(broker.port, TOPICS.stats) as reader:
        async with publishing(alerts, settings(broker.port)) as publisher:
            await until(lambda: publisher.state.connected)
            publisher.publish_stats({"windows": 7})
            (got,) = await to_thread(reader.wait_for, lambda got: len(got) == 1)
    assert got.json == {"windows": 7}
    assert not got.retained


async def test_an_alert_that_nobody_listens_to_is_counted(broker: Broker, tmp_path: Path) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    async with publishing(alerts, settings(broker.port)) as publisher:
        await until(lambda: publisher.state.connected)
        await alerts.verdict(context(), verdict())
        await until(lambda: publisher.stats().published.total() == 1)
        assert publisher.stats().no_listener == 1


async def test_stopping_delivers_what_shutdown_has_just_closed(
    broker: Broker, tmp_path: Path
) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    async with reading(broker.port) as reader:
        async with publishing(alerts, settings(broker.port)) as publisher:
            await until(lambda: publisher.state.connected)
            await alerts.verdict(context(), verdict())
            await alerts.shutdown()
        got = await to_thread(reader.settle)
    alert_kinds = [m.kind for m in got if m.topic.endswith("/alert")]
    assert alert_kinds == ["raised", "cleared"]
    assert got[-1].payload == "offline"
