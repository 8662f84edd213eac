"""The verb `publish-test`: one marked alert through a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.alerts.broker import Broker, Subscriber
from tests.commands.cli import streamguard
from tests.e2e.daemon import free_tcp_port

RTP = [{"name": "line", "type": "rtp", "ports": [40000]}]


def config_for(folder: Path, port: int) -> Path:
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"sources": RTP, "mqtt": {"host": "127.0.0.1", "port": port}}))
    return config


@pytest.mark.peer
def test_the_broker_gets_one_alert_raised_and_cleared(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker, Subscriber(broker.port) as reader:
        done = streamguard("publish-test", config_for(tmp_path, broker.port))
        messages = reader.settle(0.3)
    assert (done.code, done.err) == (0, "")
    assert "raised and cleared acknowledged by 127.0.0.1" in done.out
    alerts = [m.json for m in messages if m.topic.endswith("/alert")]
    assert [alert["data"]["kind"] for alert in alerts] == ["raised", "cleared"]
    assert {alert["data"]["source"] for alert in alerts} == {"publish-test"}
    # The daemon of that name is not spoken for.
    assert all("/streamguard-test/" in m.topic for m in messages)


def test_without_a_broker_it_fails_and_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamguard.commands.publish_test.PATIENCE_S", 0.5)
    port = free_tcp_port()
    done = streamguard("publish-test", config_for(tmp_path, port))
    assert (done.code, done.out) == (1, "")
    assert f"no acknowledgement from 127.0.0.1:{port}" in done.err


def test_a_configuration_without_a_broker_is_a_configuration_error(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"sources": RTP}))
    done = streamguard("publish-test", config)
    assert done.code == 2
    assert done.err == f"{config}:0: mqtt: missing: publish-test needs a broker\n"
