"""Legitimate synthetic speech raises no alert: by its prompt, and by the role of its leg."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.alerts.broker import Broker, Subscriber
from tests.e2e.daemon import (
    Daemon,
    by_alert,
    ffmpeg_call,
    free_rtp_ports,
    mqtt,
    rtp_source,
    wait_for,
)

pytestmark = [pytest.mark.peer, pytest.mark.timeout(90)]


def test_a_known_prompt_and_a_role_that_is_not_monitored_raise_no_alert(
    tmp_path: Path, broker: Broker, short_speech: Path, accuser: str
) -> None:
    ports = free_rtp_ports(2)
    roles = {"ivr": "caller", "agent": "callee"}
    daemon = Daemon(
        tmp_path / "daemon",
        detector=accuser,
        sources=[
            rtp_source(name, port, role=role)
            for (name, role), port in zip(roles.items(), ports, strict=True)
        ],
        policy={"roles": ["caller"]},
        gate={"prompts": [str(short_speech)]},
        mqtt=mqtt(broker.port),
    )
    with Subscriber(broker.port) as reader, daemon, ExitStack() as calls:
        for port in ports:
            calls.enter_context(ffmpeg_call(short_speech, port))
        for source in roles:
            daemon.wait_for_leg(source, lambda leg: leg["ended"] is not None, f"{source} to end")
        prompt, agent = daemon.leg("ivr"), daemon.leg("agent")
        counted = wait_for(lambda: daemon.metrics("legs_total"), "the metrics of ended legs")
        messages = reader.settle(1.0)
        assert daemon.stop() == 0
    assert not by_alert(messages)
    assert prompt["state"] == "UNKNOWN"
    assert prompt["heard_s"] == 6.0
    assert prompt["windows"]["rejected"]["announcement"] >= 5
    assert (agent["excluded"], agent["heard_s"]) == ("role", 0.0)
    # Labels in the order of their names: codec, source, state, trunk.
    assert counted["PCMU", "ivr", "UNKNOWN", "other"] == 1.0
    assert counted["PCMU", "agent", "excluded", "other"] == 1.0
