"""``streamguard publish-test``: one marked alert to the broker, raised and cleared."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from streamguard import __version__
from streamguard.alerts.context import DecisionRule, EngineFacts, LegContext, ModelFacts
from streamguard.alerts.desk import AlertDesk
from streamguard.alerts.publisher import Publisher
from streamguard.alerts.settings import MqttSettings, OutboxSettings
from streamguard.alerts.topics import Topics
from streamguard.clock import LegClock, SystemClock
from streamguard.config import Config, load_config
from streamguard.console import complain, say
from streamguard.errors import ConfigError, ConfigProblem
from streamguard.events import EndReason, LegRole
from streamguard.verdict.scores import State, Verdict

TEST_SOURCE = "publish-test"
PATIENCE_S = 15.0


def publish_test(config_path: Path) -> int:
    """0 when the broker has acknowledged both messages, 1 when it has not within 15 s."""
    config = load_config(config_path)
    if config.mqtt is None:
        problem = ConfigProblem(
            str(config_path), 0, "mqtt", "missing", "publish-test needs a broker"
        )
        raise ConfigError((problem,))
    return asyncio.run(_publish(config, config.mqtt))


async def _publish(config: Config, mqtt: MqttSettings) -> int:
    clock = SystemClock()
    # Its own node name: the real daemon's availability and state must not be touched by a test.
    topics = Topics(mqtt.prefix, f"{config.node}-test")
    with tempfile.TemporaryDirectory() as folder:
        desk = AlertDesk(
            config.alerts, topics, clock, OutboxSettings(path=Path(folder) / "outbox.sqlite3")
        )
        await desk.start()
        publisher = Publisher(mqtt.model_copy(update={"client_id": None}), topics, desk, clock)
        try:
            verdict = Verdict(
                "test", State.SPOOF, llr=5.0, p_spoof=0.5, net_speech_s=5.0, windows_scored=5
            )
            await desk.verdict(_context(config, clock), verdict)
            await desk.leg_ended("test", EndReason.HANGUP)
            async with asyncio.TaskGroup() as group:
                task = group.create_task(publisher.run(), name="publisher")
                delivered = await _delivered(desk)
                state = publisher.state  # before the end, of which it will say that, too
                publisher.stop(drain_s=1.0)
                await asyncio.wait([task], timeout=5.0)
                task.cancel()
        finally:
            await desk.close()
        where = f"{mqtt.host}:{mqtt.effective_port}"
        if delivered:
            say(f"raised and cleared acknowledged by {where} on {topics.alert(TEST_SOURCE)}")
            return 0
        complain(f"no acknowledgement from {where} in {PATIENCE_S:.0f} s: {state.reason}")
        return 1


async def _delivered(desk: AlertDesk) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while desk.stats().outbox.depth:  # noqa: ASYNC110  # the desk has no such event
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True


def _context(config: Config, clock: SystemClock) -> LegContext:
    return LegContext(
        node=f"{config.node}-test",
        source=TEST_SOURCE,
        call="test",
        leg="test",
        leg_index=0,
        role=LegRole.UNKNOWN,
        codec="test",
        clock=LegClock(clock.utc() - 5.0),
        detector=ModelFacts("publish-test (no model was run)", __version__, "0" * 64),
        engine=EngineFacts("none", "none", "none"),
        rule=DecisionRule("publish-test", {}),
    )
