"""What the daemon says of itself over HTTP and in retained topics, in good times and bad."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from streamguard.commands import publish_test
from streamguard.config import load_config
from tests.alerts.broker import Broker, Subscriber, free_port
from tests.e2e.daemon import Daemon, free_rtp_port, mqtt, rtp_source, streamguard, wait_for

pytestmark = [pytest.mark.peer, pytest.mark.timeout(60)]

STATE = "streamguard/node1/source/trunk/state"


def test_a_source_without_its_port_is_down_until_the_port_is_free(
    tmp_path: Path, broker: Broker, accuser: str
) -> None:
    port = free_rtp_port()
    daemon = Daemon(
        tmp_path / "daemon",
        detector=accuser,
        sources=[rtp_source("trunk", port)],
        mqtt=mqtt(broker.port),
    )
    with ExitStack() as stack:
        reader = stack.enter_context(Subscriber(broker.port, topic=STATE))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
            somebody.bind(("127.0.0.1", port))
            stack.enter_context(daemon.launched())
            wait_for(lambda: daemon.get("readyz")[0] == 503, "the health server")
            wait_for(lambda: "trunk" in daemon.status()["sources"], "the source's first death")
            assert daemon.get("livez") == (200, b"ok\n")
            body = json.loads(daemon.get("readyz")[1])
            assert body["ready"] is False
            assert body["reasons"] == ["none of 1 sources is up"]
            down = reader.wait_for(lambda got: bool(got and got[-1].json["reason"] != "starting"))
            assert down[-1].json["state"] == "down"
            assert f"cannot listen on 127.0.0.1 port {port}" in down[-1].json["reason"]
            wait_for(lambda: daemon.metrics("source_restarts_total"), "a restart to be counted")
            assert daemon.metrics("source_up") == {("trunk",): 0.0}
        wait_for(lambda: daemon.get("readyz")[0] == 200, "the source to have its port")
        up = reader.wait_for(lambda got: got[-1].json["state"] == "up")
        assert up[-1].json["reason"] is None
        wait_for(lambda: daemon.status()["broker"]["state"] == "connected", "the broker")
        body = json.loads(daemon.get("readyz")[1])
        assert body == {
            "ready": True,
            "reasons": [],
            "sources_up": 1,
            "sources": 1,
            "broker": "connected",
        }
        assert daemon.metrics("source_up") == {("trunk",): 1.0}
        assert daemon.get("elsewhere")[0] == 404
        assert daemon.stop() == 0
    assert daemon.get("livez") == (0, b"")


def test_publish_test_sends_one_marked_alert_from_raised_to_cleared(
    tmp_path: Path, broker: Broker
) -> None:
    config = Daemon(
        tmp_path, sources=[rtp_source("trunk", free_rtp_port())], mqtt=mqtt(broker.port)
    ).config
    with Subscriber(broker.port) as reader:
        done = streamguard("publish-test", config)
        messages = reader.alerts(2)
    assert done.returncode == 0, done.stderr
    assert f"acknowledged by 127.0.0.1:{broker.port}" in done.stdout
    assert [message.kind for message in messages] == ["raised", "cleared"]
    assert {m.topic for m in messages} == {"streamguard/node1-test/source/publish-test/alert"}
    assert "no model was run" in messages[0].json["data"]["model"]["name"]


async def test_publish_test_says_why_nothing_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = free_port()
    path = Daemon(
        tmp_path, sources=[rtp_source("trunk", free_rtp_port())], mqtt=mqtt(nobody)
    ).config
    config = load_config(path)
    assert config.mqtt is not None
    monkeypatch.setattr(publish_test, "PATIENCE_S", 1.0)
    assert await publish_test._publish(config, config.mqtt) == 1
    said = capsys.readouterr().err
    assert f"no acknowledgement from 127.0.0.1:{nobody} in 1 s" in said
    assert "refused" in said
