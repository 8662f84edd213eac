"""How the daemon goes: asked, asked twice, or not asked at all."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.alerts.broker import Broker, Subscriber
from tests.alerts.fake_broker import black_hole
from tests.e2e.daemon import (
    Daemon,
    by_alert,
    check_life,
    ffmpeg_call,
    free_rtp_port,
    mqtt,
    rtp_source,
    wait_for,
)

pytestmark = [pytest.mark.peer, pytest.mark.timeout(90)]

BUDGET_S = 9.0


def _daemon(folder: Path, broker: Broker, detector: str, port: int) -> Daemon:
    return Daemon(
        folder / "daemon",
        detector=detector,
        sources=[rtp_source("trunk", port)],
        mqtt=mqtt(broker.port),
        shutdown_budget_s=BUDGET_S,
    )


def _availability(broker: Broker) -> str:
    """What a reader who comes now is told."""
    with Subscriber(broker.port, topic="streamguard/node1/availability") as reader:
        (message,) = reader.wait_for(bool)
    assert message.retained
    return message.payload


def test_sigterm_clears_what_is_open_says_offline_and_exits_0(
    tmp_path: Path, broker: Broker, long_speech: Path, accuser: str
) -> None:
    port = free_rtp_port()
    daemon = _daemon(tmp_path, broker, accuser, port)
    with Subscriber(broker.port) as reader, ffmpeg_call(long_speech, port), daemon:
        reader.alerts(1, timeout_s=20.0)
        assert _availability(broker) == "online"
        asked = time.monotonic()
        assert daemon.stop() == 0
        took_s = time.monotonic() - asked
        messages = reader.settle(0.5)
    assert took_s < BUDGET_S
    (alert,) = by_alert(messages).values()
    check_life(alert)
    assert alert[-1].json["data"]["cleared_reason"] == "shutdown"
    assert "delayed" not in alert[-1].user_properties
    assert _availability(broker) == "offline"
    assert messages[-1].payload == "offline", "the last word, after the alert was closed"
    assert "Traceback" not in daemon.log.read_text()


def test_a_killed_daemon_is_offline_by_its_will(
    tmp_path: Path, broker: Broker, accuser: str
) -> None:
    with _daemon(tmp_path, broker, accuser, free_rtp_port()) as daemon:
        wait_for(lambda: daemon.status()["broker"]["state"] == "connected", "the broker")
        with Subscriber(broker.port, topic="streamguard/node1/availability") as reader:
            daemon.kill()
            said = reader.wait_for(lambda got: "offline" in [m.payload for m in got])
    assert [message.payload for message in said] == ["online", "offline"]


def test_a_second_sigterm_ends_a_daemon_that_waits_for_its_broker(
    tmp_path: Path, broker: Broker, accuser: str
) -> None:
    with _daemon(tmp_path, broker, accuser, free_rtp_port()) as daemon:
        wait_for(lambda: daemon.status()["broker"]["state"] == "connected", "the broker")
        broker.freeze()  # it takes the goodbye and answers nothing
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_log("shutting down")
        daemon.signal(signal.SIGTERM)
        # The signal itself, not an exit status: the parent is told the truth.
        assert daemon.wait() == -signal.SIGTERM


def test_a_broker_that_lets_connections_hang_does_not_hold_the_end(
    tmp_path: Path, accuser: str
) -> None:
    with black_hole() as port:
        daemon = Daemon(
            tmp_path / "daemon",
            detector=accuser,
            sources=[rtp_source("trunk", free_rtp_port())],
            mqtt={"host": "127.0.0.1", "port": port, "timeout_s": 60},
            shutdown_budget_s=BUDGET_S,
        )
        with daemon:
            asked = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - asked < BUDGET_S
    assert "Traceback" not in daemon.log.read_text()
