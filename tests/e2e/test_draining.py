"""A rolling upgrade: new calls go elsewhere, those that are up are heard to their end."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.alerts.broker import Broker, Subscriber
from tests.e2e.daemon import (
    Daemon,
    by_alert,
    check_life,
    ffmpeg_call,
    free_rtp_ports,
    mqtt,
    rtp_source,
    wait_for,
)

pytestmark = [pytest.mark.peer, pytest.mark.timeout(90)]


def test_a_draining_daemon_refuses_calls_finishes_those_that_are_up_and_exits_0(
    tmp_path: Path, broker: Broker, short_speech: Path, long_speech: Path, accuser: str
) -> None:
    first, second = free_rtp_ports(2)
    daemon = Daemon(
        tmp_path / "daemon",
        detector=accuser,
        sources=[rtp_source("trunk", first), rtp_source("desk", second)],
        mqtt=mqtt(broker.port),
    )
    with Subscriber(broker.port) as reader, daemon:
        with ffmpeg_call(long_speech, first):
            reader.alerts(1)
            assert daemon.status()["refusing"] is None
            daemon.signal(signal.SIGUSR1)
            wait_for(lambda: daemon.get("readyz")[0] == 503, "the daemon to be not ready")
            assert "draining" in daemon.get("readyz")[1].decode()
            assert daemon.status()["refusing"] == "draining"
            with ffmpeg_call(short_speech, second):
                wait_for(
                    lambda: daemon.status()["source_counters"]["desk"]["dropped"].get("refused"),
                    "the second call to be refused",
                )
            assert daemon.legs("desk") == []
            assert daemon.leg("trunk")["live"]
        assert daemon.wait() == 0
        messages = reader.settle(0.5)
    (alert,) = by_alert(messages).values()
    check_life(alert)
    # Its own end, not ours: the call was heard out.
    assert alert[-1].json["data"]["cleared_reason"] == "call_ended"
    assert "drained: no call is left" in daemon.log.read_text()


def test_an_operator_drains_an_idle_daemon_by_command(
    tmp_path: Path, broker: Broker, accuser: str
) -> None:
    (port,) = free_rtp_ports(1)
    daemon = Daemon(
        tmp_path / "daemon",
        detector=accuser,
        sources=[rtp_source("trunk", port)],
        mqtt=mqtt(broker.port),
    )
    with daemon, Subscriber(broker.port, topic="streamguard/node1/cmd/result") as reader:
        wait_for(lambda: daemon.status()["broker"]["state"] == "connected", "the broker")
        for request, body in (("bad", {"operator": ""}), ("good", {"operator": "op7"})):
            payload = json.dumps(body | {"request_id": request})
            command = ["mosquitto_pub", "-p", str(broker.port), "-q", "1"]
            command += ["-t", "streamguard/node1/cmd/drain", "-m", payload]
            subprocess.run(command, check=True)
        answers = reader.wait_for(lambda got: len(got) == 2)
        assert daemon.wait() == 0
    assert [(m.json["command"], m.json["ok"]) for m in answers] == [
        ("drain", False),
        ("drain", True),
    ]
    daemon.wait_for_log("op7 asks to drain")
