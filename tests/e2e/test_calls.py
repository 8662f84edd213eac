"""Calls from programs that we did not write, to alerts read by a program that we did not write."""

from __future__ import annotations

import itertools
import json
import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import soundfile

from streamguard.audio.g711 import encode_ulaw
from streamguard.protocols.rtcp import build_bye
from streamguard.protocols.rtp import RtpPacket, build_packet
from tests.alerts.broker import Broker, Subscriber
from tests.e2e.daemon import (
    Daemon,
    by_alert,
    check_life,
    ffmpeg_call,
    free_rtp_ports,
    gstreamer_call,
    mqtt,
    rtp_source,
    streamguard,
    wait_for,
)

pytestmark = [pytest.mark.peer, pytest.mark.timeout(90)]


def test_calls_of_ffmpeg_and_gstreamer_raise_update_and_clear_an_alert_each(
    tmp_path: Path, broker: Broker, short_speech: Path, accuser: str
) -> None:
    trunk, desk = free_rtp_ports(2)
    daemon = Daemon(
        tmp_path / "daemon",
        detector=accuser,
        sources=[rtp_source("trunk", trunk), rtp_source("desk", desk)],
        mqtt=mqtt(broker.port),
    )
    with Subscriber(broker.port) as reader, daemon, ExitStack() as calls:
        calls.enter_context(ffmpeg_call(short_speech, trunk))
        calls.enter_context(gstreamer_call(short_speech, desk))
        for source in ("trunk", "desk"):
            daemon.wait_for_leg(source, lambda leg: leg["ended"] is not None, f"{source} to end")
        messages = reader.settle(1.0)
        status = daemon.status()
        counted = {
            # The gauges are filled once a second.
            "alerts": wait_for(lambda: _cleared(daemon), "the metrics of cleared alerts"),
            "windows": daemon.metrics("windows_total"),
        }
        assert daemon.stop() == 0

    alerts = by_alert(messages)
    assert len(alerts) == 2
    for alert in alerts.values():
        check_life(alert)
        assert len(alert) >= 3
        assert alert[-1].json["data"]["cleared_reason"] == "call_ended"
        assert {message.content_type for message in alert} == {"application/cloudevents+json"}
        # Nobody can read of a sample before it was spoken.
        assert all(message.utc > _hour(message.json["data"]["last_seen"]) for message in alert)
    by_source = {alert[0].json["data"]["source"]: alert for alert in alerts.values()}
    codecs = {source: alert[0].json["data"]["codec"] for source, alert in by_source.items()}
    assert codecs == {"trunk": "PCMU", "desk": "PCMA"}

    for source, alert in by_source.items():
        (leg,) = [leg for leg in status["legs"] if leg["source"] == source]
        assert (leg["state"], leg["ended"], leg["heard_s"]) == ("SPOOF", "inactivity", 6.0)
        assert leg["windows"]["scored"] == counted["windows"]["scored", source] >= 5
        assert alert[-1].json["data"]["windows"]["scored"] == leg["windows"]["scored"]
        assert alert[-1].json["data"]["llr"] == leg["llr"]
        assert counted["alerts"]["raised", source] == 1
        assert counted["alerts"]["updated", source] == len(alert) - 2
    # What does not run has no figures: no attribution is configured, no leg is left.
    assert set(status["latency_ms"]) == {"queue", "front_end", "detection", "verdict"}
    assert status["capacity"] == {"legs": None}
    assert status["open_alerts"] == status["outbox"]["depth"] == 0

    _check_what_is_retained(broker, {alert[0].json["data"]["call_id"] for alert in alerts.values()})


def _hour(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _cleared(daemon: Daemon) -> dict[tuple[str, ...], float] | None:
    alerts = daemon.metrics("alerts_total")
    return alerts if sum(n for key, n in alerts.items() if "cleared" in key) == 2 else None


def _check_what_is_retained(broker: Broker, call_ids: set[str]) -> None:
    """A reader who comes when all is over sees states, and nothing of who called."""
    with Subscriber(broker.port) as late:
        kept = late.settle(0.5)
    expected = {"availability", "status"}
    expected |= {f"source/{s}/{what}" for s in ("trunk", "desk") for what in ("state", "verdict")}
    assert {m.topic.removeprefix("streamguard/node1/") for m in kept} == expected
    assert all(message.retained for message in kept)
    for message, call in itertools.product(kept, call_ids):
        assert call not in message.payload
    verdicts = [m.json["state"] for m in kept if m.topic.endswith("/verdict")]
    assert verdicts == ["UNKNOWN", "UNKNOWN"]


def test_a_call_and_its_recording_get_the_same_verdict(tmp_path: Path, short_speech: Path) -> None:
    recording = _recorded(short_speech, tmp_path)
    (port,) = free_rtp_ports(1)
    # The packaged detector: what is compared has to depend on every sample.
    with Daemon(tmp_path / "daemon", sources=[rtp_source("trunk", port)]) as daemon:
        with ffmpeg_call(recording, port):
            heard = daemon.wait_for_leg("trunk", lambda leg: leg["ended"], "the call to end")
        analysed = streamguard("analyze", "--config", daemon.config, "--json", recording)
        assert daemon.stop() == 0
    assert analysed.returncode == 0, analysed.stderr
    report = json.loads(analysed.stdout)
    assert heard["loss_pct"] == 0
    assert heard["heard_s"] == report["duration_s"] == 6.0
    assert heard["state"] == report["verdict"]["state"]
    assert heard["llr"] == pytest.approx(report["verdict"]["llr"], abs=1e-3)
    assert heard["net_speech_s"] == report["net_speech_s"] > 3
    assert heard["windows"] == _counts(report["windows"])
    assert heard["windows"]["scored"] >= 5
    assert len({window["llr"] for window in report["windows"]}) > 5


def _recorded(speech: Path, folder: Path) -> Path:
    """The voice as a telephone has it: every encoder makes the same bytes of these samples."""
    recording = folder / "call.wav"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", speech, "-ar", "8000", "-c:a", "pcm_mulaw", recording],
        check=True,
    )
    return recording


def _counts(windows: list[dict[str, Any]]) -> dict[str, Any]:
    rejected: dict[str, int] = {}
    for window in windows:
        if window["rejected"] is not None:
            rejected[window["rejected"]] = rejected.get(window["rejected"], 0) + 1
    return {"scored": len(windows) - sum(rejected.values()), "rejected": rejected}


def test_garbage_on_the_port_of_a_call_changes_nothing_and_is_counted(
    tmp_path: Path, short_speech: Path, accuser: str
) -> None:
    """One call in peace; one with strangers on its ports; one whose own sender talks rubbish."""
    quiet, noisy, own = free_rtp_ports(3)
    daemon = Daemon(
        tmp_path / "daemon",
        detector=accuser,
        sources=[rtp_source(*s) for s in (("quiet", quiet), ("noisy", noisy), ("own", own))],
    )
    recording = _recorded(short_speech, tmp_path)
    with daemon, ExitStack() as calls:
        calls.enter_context(ffmpeg_call(recording, quiet))
        calls.enter_context(ffmpeg_call(recording, noisy))
        # Whoever comes first on a free port is the call.
        daemon.leg("noisy")
        sent = calls.enter_context(_strangers(noisy))
        _call_with_rubbish(recording, own)
        for source in ("quiet", "noisy", "own"):
            daemon.wait_for_leg(source, lambda leg: leg["ended"] is not None, f"{source} to end")
        counters = daemon.status()["source_counters"]
        facts = {source: _facts(daemon.leg(source)) for source in ("quiet", "noisy", "own")}
        legs = {source: len(daemon.legs(source)) for source in ("quiet", "noisy", "own")}
        assert daemon.get("livez")[0] == 200
        assert daemon.stop() == 0
    assert legs == {"quiet": 1, "noisy": 1, "own": 1}
    assert facts["quiet"]["state"] == "SPOOF"
    assert facts["noisy"] == facts["quiet"]
    assert facts["own"] == facts["quiet"]
    assert counters["quiet"]["dropped"] == {}
    assert len(sent) > 500
    for reason in ("short", "version", "locked_out", "rtcp_malformed", "bye_of_others"):
        assert counters["noisy"]["dropped"][reason] > 10, reason
    # Of seven kinds, one of each went between the good packets of the own sender.
    assert counters["own"]["dropped"] == {
        **dict.fromkeys(("short", "csrc", "padding", "oversized", "version"), 290),
        "stray": 2 * 290,
    }
    assert "Traceback" not in daemon.log.read_text()


def _facts(leg: dict[str, Any]) -> dict[str, Any]:
    return {key: leg[key] for key in ("heard_s", "net_speech_s", "windows", "state", "llr")}


@contextmanager
def _strangers(port: int) -> Iterator[list[bytes]]:
    """Throw what is no part of the call at both ports until the end of the block."""
    dice = random.Random(2)
    over = threading.Event()
    sent: list[bytes] = []

    def throw() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for index in itertools.count():
                if over.wait(0.002):
                    return
                good = build_packet(RtpPacket(0, False, index & 0xFFFF, 160 * index, 7, bytes(160)))
                datagram = (
                    dice.randbytes(dice.randint(0, 400)),
                    good,  # a whole call of somebody else
                    good[: dice.randint(0, 11)],
                    bytes([dice.randint(0, 127)]) + good[1:],
                    build_bye(dice.getrandbits(32)),
                    bytes([0x80, 200, 0, 99]) + dice.randbytes(16),
                )[index % 6]
                sock.sendto(datagram, ("127.0.0.1", port + index % 2))
                sock.sendto(datagram, ("127.0.0.1", port))
                sent.append(datagram)

    thread = threading.Thread(target=throw)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def _call_with_rubbish(recording: Path, port: int) -> None:
    """The recording from our own sender, at real-time pace, with rubbish before each packet."""
    coded = encode_ulaw(soundfile.read(recording, dtype="int16")[0])
    dice = random.Random(3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        start = time.monotonic()
        for index in range(len(coded) // 160):
            payload = coded[160 * index : 160 * index + 160]
            good = build_packet(RtpPacket(0, False, 65_500 + index, 160 * index, 99, payload))
            rubbish = (
                good[:11],
                b"\x8f" + good[1:13],  # fifteen contributing sources that are not there
                b"\xa0" + good[1:-1] + b"\xff",  # more padding than packet
                good + bytes(1_601),
                b"\x00" + good[1:],
                good[:8] + dice.randbytes(4) + good[12:],  # one packet of ever another stream
                b"\x80\x7f" + good[2:8] + b"\x00\x00\x00\x01",  # an unknown kind, another stream
            )
            # Two good packets in a row open the call; rubbish from the first one on opens none.
            for datagram in (*(rubbish if index >= 10 else ()), good):
                sock.sendto(datagram, ("127.0.0.1", port))
            time.sleep(max(0.0, start + 0.02 * (index + 1) - time.monotonic()))
