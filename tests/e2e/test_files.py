"""Recordings as sources of the daemon: played, judged, over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.alerts.broker import Broker, Subscriber
from tests.e2e.daemon import Daemon, by_alert, check_life, mqtt

pytestmark = [pytest.mark.peer, pytest.mark.timeout(60)]


def _files(name: str, *paths: Path) -> dict[str, Any]:
    return {"name": name, "type": "file", "paths": [str(path) for path in paths], "speed": 0}


def test_a_daemon_that_only_plays_recordings_ends_with_the_last_of_them(
    tmp_path: Path, broker: Broker, short_speech: Path, accuser: str
) -> None:
    broken, missing = tmp_path / "broken.wav", tmp_path / "missing.wav"
    broken.write_bytes(short_speech.read_bytes()[:30])
    daemon = Daemon(
        tmp_path / "daemon",
        detector=accuser,
        sources=[
            _files("mixed", missing, broken, short_speech),
            _files("lost", missing),
            _files("good", short_speech),
        ],
        mqtt=mqtt(broker.port),
    )
    with Subscriber(broker.port) as reader:
        with daemon.launched():
            assert daemon.wait() == 0
        messages = reader.settle(0.5)
    alerts = by_alert(messages)
    for alert in alerts.values():
        check_life(alert)
        closing = alert[-1].json["data"]
        assert (closing["codec"], closing["cleared_reason"]) == ("file", "call_ended")
        # As fast as possible, and yet every window of the 6 s was judged.
        assert closing["windows"]["scored"] >= 5
    assert {alert[0].json["data"]["source"] for alert in alerts.values()} == {"mixed", "good"}
    assert [m.payload for m in messages if m.topic.endswith("/availability")][-1] == "offline"
    log = daemon.log.read_text()
    assert f"source lost: {missing}: no such file" in log
    assert f"source mixed: {broken}: not readable as audio" in log
    assert "Traceback" not in log
