"""SIGHUP: what changed is taken over, what did not goes on undisturbed."""

from __future__ import annotations

import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.broker import Broker, Received, Subscriber
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


@pytest.mark.slow
def test_reloading_changes_sources_and_models_around_a_running_call(
    tmp_path: Path, broker: Broker, long_speech: Path, accuser: str, believer: str
) -> None:
    trunk, desk = (
        rtp_source(name, port)
        for name, port in zip(("trunk", "desk"), free_rtp_ports(2), strict=True)
    )
    detector = shutil.copytree(accuser, tmp_path / "detector")
    daemon = Daemon(
        tmp_path / "daemon", detector=str(detector), sources=[trunk], mqtt=mqtt(broker.port)
    )
    with Subscriber(broker.port) as reader, daemon:
        with ffmpeg_call(long_speech, trunk["ports"][0]):
            reader.alerts(1, timeout_s=20.0)
            _check_that_mistakes_are_refused(daemon, trunk)
            _check_that_the_daemon_outlives_its_health_server(daemon)
            first = _progress(daemon)

            _reload(daemon, sources=[trunk, desk])
            wait_for(lambda: daemon.status()["sources"].get("desk"), "the new source")
            with ffmpeg_call(long_speech, desk["ports"][0]):
                reader.wait_for(lambda got: bool(_alerts(got, "desk")), 20.0)
                second = _progress(daemon, since=first)

                _reload(daemon, sources=[trunk])
                reader.wait_for(lambda got: _alerts(got, "desk")[-1].kind == "cleared")
                wait_for(lambda: "desk" not in daemon.status()["sources"], "its end")
            assert {key for key in daemon.metrics("source_up") if "desk" in key} == set()
            third = _progress(daemon, since=second)

            # Put in the place of the old one, as a deployment does: the name stays the same.
            shutil.copytree(believer, detector, dirs_exist_ok=True)
            _reload(daemon)
            reader.wait_for(lambda got: _alerts(got, "trunk")[-1].kind == "cleared")
            leg = daemon.wait_for_leg(
                "trunk", lambda leg: leg["state"] == "BONAFIDE", "the new model's verdict"
            )
            # The new model judges the same leg, from its own evidence.
            assert leg["llr"] < 0
            assert leg["heard_s"] > third["heard_s"]
            assert leg["windows"]["scored"] < third["windows"]["scored"]
        daemon.wait_for_leg("trunk", lambda leg: leg["ended"] is not None, "the call to end")
        assert len(daemon.legs("trunk")) == 1
        counters = daemon.status()
        assert daemon.stop() == 0
        messages = reader.settle(0.5)

    assert counters["inference"]["dropped"] == {}
    assert counters["source_counters"]["trunk"]["dropped"] == {}
    alerts = by_alert(messages)
    assert len(alerts) == 2, "the new model raised nothing"
    reasons = {}
    for alert in alerts.values():
        check_life(alert)
        assert len({message.json["data"]["model"]["sha256"] for message in alert}) == 1
        closing = alert[-1].json["data"]
        reasons[closing["source"]] = closing["cleared_reason"]
    assert reasons == {"trunk": "model_changed", "desk": "shutdown"}
    for kept in ("state", "verdict"):  # alerts are not retained, and may come after
        said = [m.payload for m in messages if m.topic == f"streamguard/node1/source/desk/{kept}"]
        assert said[-1] == "", "nothing is left of a source that is not configured"
    assert _retained(broker) & {"source/desk/state", "source/desk/verdict"} == set()


def _check_that_mistakes_are_refused(daemon: Daemon, source: dict[str, Any]) -> None:
    """The old configuration goes on, and the log says where the mistake is."""
    before = _progress(daemon)
    _reload(daemon, sources=[source], priro=0.5)
    line = daemon.wait_for_log("configuration not taken over")
    at = 1 + daemon.config.read_text().splitlines().index("priro: 0.5")
    assert f"{daemon.config}:{at}: priro" in line
    assert "did you mean prior?" in line
    del daemon.sections["priro"]
    assert set(daemon.status()["sources"]) == {"trunk"}
    assert daemon.status()["open_alerts"] == 1
    _progress(daemon, since=before)


def _check_that_the_daemon_outlives_its_health_server(daemon: Daemon) -> None:
    """A port that somebody else has is no reason to end the calls."""
    http = daemon.sections["http"]
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        _reload(daemon, http={"listen": f"127.0.0.1:{somebody.getsockname()[1]}"})
        daemon.wait_for_log("no health server until the configuration is re-read")
        assert daemon.get("livez") == (0, b"")
    _reload(daemon, http=http)
    wait_for(lambda: daemon.get("readyz")[0] == 200, "the health server")


def _reload(daemon: Daemon, **sections: Any) -> None:
    daemon.write(**sections)
    daemon.signal(signal.SIGHUP)


def _progress(daemon: Daemon, since: dict[str, Any] | None = None) -> dict[str, Any]:
    """The leg of the running call, once it has more windows than ``since``: none went missing."""
    scored = since["windows"]["scored"] if since else 0
    leg = daemon.wait_for_leg(
        "trunk", lambda leg: leg["windows"]["scored"] > scored, "more windows"
    )
    assert leg["live"]
    assert len(daemon.legs("trunk")) == 1
    windows = leg["windows"]["scored"] + sum(leg["windows"]["rejected"].values())
    assert windows == leg["heard_s"] / 0.5 - 5
    return leg


def _alerts(messages: list[Received], source: str) -> list[Received]:
    return [m for m in messages if m.topic == f"streamguard/node1/source/{source}/alert"]


def _retained(broker: Broker) -> set[str]:
    with Subscriber(broker.port) as late:
        return {m.topic.removeprefix("streamguard/node1/") for m in late.settle(0.5)}
