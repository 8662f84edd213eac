"""The broker goes, the daemon goes: what was raised arrives all the same, once and in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.alerts.broker import Broker, Received, Subscriber
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


def _waiting(daemon: Daemon) -> int:
    depth: int = daemon.status()["outbox"]["depth"]
    return depth


@pytest.mark.slow
def test_a_broker_that_is_absent_at_boot_and_stops_in_mid_call_loses_no_alert(
    tmp_path: Path, broker: Broker, long_speech: Path, accuser: str
) -> None:
    port = free_rtp_port()
    daemon = Daemon(
        tmp_path / "daemon",
        detector=accuser,
        sources=[rtp_source("trunk", port)],
        mqtt=mqtt(broker.port),
    )
    # The reader's session is older than the outage: the broker keeps for it what it takes.
    with Subscriber(broker.port) as reader:
        broker.stop()
        with daemon:
            with ffmpeg_call(long_speech, port):
                wait_for(lambda: daemon.status()["open_alerts"], "an alert")
                wait_for(lambda: _waiting(daemon) >= 2, "alerts to wait for the broker at boot")
                assert daemon.status()["broker"]["state"] == "disconnected"
                assert daemon.metrics("mqtt_connected") == {(): 0.0}

                broker.start()
                wait_for(lambda: _waiting(daemon) == 0, "the waiting alerts to be taken")
                seen = len(reader.alerts(2))
                reader.alerts(seen + 1)  # one that did not wait

                broker.stop()
                heard_s = daemon.leg("trunk")["heard_s"]
                wait_for(lambda: _waiting(daemon) >= 2, "alerts to wait for the broker in mid-call")
                assert daemon.get("readyz")[0] == 200
                broker.start()
                wait_for(lambda: _waiting(daemon) == 0, "the waiting alerts to be taken")
                leg = daemon.leg("trunk")
            daemon.wait_for_leg("trunk", lambda leg: leg["ended"] is not None, "the call to end")
            reader.wait_for(lambda got: any(m.kind == "cleared" for m in _alerts(got)))
            messages = reader.settle(0.5)
            status = daemon.status()
            assert daemon.stop() == 0

    # Monitoring never stopped: no hop is missing, no window was dropped, and time went by.
    assert leg["heard_s"] > heard_s
    assert status["inference"]["dropped"] == {}
    assert status["source_counters"]["trunk"]["dropped"] == {}
    (alert,) = by_alert(messages).values()
    check_life(alert)
    delayed = ["delayed" in message.user_properties for message in alert]
    assert delayed[:2] == [True, True], "those from before the broker's first start"
    later = delayed[delayed.index(False) :]
    assert sum(later) >= 2, "those from the second outage"
    assert later[-1] is False, "the last was sent as it was written"


def _alerts(messages: list[Received]) -> list[Received]:
    return [message for message in messages if message.topic.endswith("/alert")]


def test_alerts_that_wait_when_the_daemon_is_killed_arrive_and_its_calls_are_closed(
    tmp_path: Path, broker: Broker, long_speech: Path, accuser: str
) -> None:
    port = free_rtp_port()
    daemon = Daemon(
        tmp_path / "daemon",
        detector=accuser,
        sources=[rtp_source("trunk", port)],
        mqtt=mqtt(broker.port),
    )
    with Subscriber(broker.port) as reader:
        broker.stop()
        with ffmpeg_call(long_speech, port), daemon:
            waiting = wait_for(lambda: _waiting(daemon), "an alert to wait")
            daemon.kill()
        broker.start()
        with daemon:
            reader.wait_for(lambda got: any(m.kind == "cleared" for m in _alerts(got)))
            messages = reader.settle(0.5)
            assert daemon.stop() == 0
    (alert,) = by_alert(messages).values()
    check_life(alert)
    assert len(alert) > waiting
    assert all("delayed" in message.user_properties for message in alert)
    closing = alert[-1].json["data"]
    assert closing["cleared_reason"] == "shutdown"
    assert closing["cleared_detail"].startswith("interrupted")
    assert closing["call_id"] == alert[0].json["data"]["call_id"]
    assert "closed 1 alerts of calls that a crash interrupted" in daemon.log.read_text()
