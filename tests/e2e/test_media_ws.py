"""Calls over a WebSocket and over AudioSocket, from a client to an alert, through the daemon."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr
from websockets.sync.client import connect

from streamguard.audio.g711 import encode_ulaw
from streamguard.protocols.audiosocket import FrameType, build_frame
from tests.alerts.broker import Broker, Subscriber
from tests.e2e.daemon import Daemon, by_alert, check_life, free_tcp_port, mqtt

pytestmark = [pytest.mark.peer, pytest.mark.timeout(90)]

PACE_S = 0.01
"""Twice as fast as speech: half the time, and well within what a sender may do."""


def frames(speech: Path) -> Iterator[npt.NDArray[np.int16]]:
    """20 ms of 8 kHz at a time, at their pace."""
    samples, rate_hz = soundfile.read(speech, dtype="int16")
    narrow = soxr.resample(samples, rate_hz, 8_000)
    start = time.monotonic()
    for index in range(len(narrow) // 160):
        yield narrow[160 * index : 160 * index + 160]
        time.sleep(max(0.0, start + PACE_S * (index + 1) - time.monotonic()))


def twilio_call(port: int, speech: Path) -> None:
    media_format = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    start = {"callSid": "CA" + "7" * 32, "tracks": ["inbound"], "mediaFormat": media_format}

    def event(kind: str, number: int, **more: Any) -> str:
        return json.dumps({"event": kind, "sequenceNumber": str(number), **more})

    headers = {"Authorization": "Bearer nobody looks at it"}
    with connect(f"ws://127.0.0.1:{port}/twilio", additional_headers=headers) as client:
        client.send(event("connected", 0))
        client.send(event("start", 1, start=start))
        for index, frame in enumerate(frames(speech)):
            payload = base64.b64encode(encode_ulaw(frame)).decode()
            media = {"track": "inbound", "chunk": str(index + 1), "payload": payload}
            client.send(event("media", index + 2, media=media))
        client.send(event("stop", 100_000))


def audiosocket_call(port: int, speech: Path) -> None:
    with socket.create_connection(("127.0.0.1", port)) as asterisk:
        asterisk.sendall(build_frame(FrameType.UUID, uuid.uuid4().bytes))
        for frame in frames(speech):
            asterisk.sendall(build_frame(0x10, frame.astype("<i2").tobytes()))
        asterisk.sendall(build_frame(FrameType.HANGUP))


def test_a_call_of_each_kind_raises_and_clears_an_alert(
    tmp_path: Path, broker: Broker, short_speech: Path, accuser: str
) -> None:
    web, asterisk = free_tcp_port(), free_tcp_port()
    daemon = Daemon(
        tmp_path / "daemon",
        detector=accuser,
        sources=[
            {
                "name": "cloud",
                "type": "media_ws",
                "listen": f"127.0.0.1:{web}",
                "paths": [{"dialect": "twilio"}],
            },
            {
                "name": "pbx",
                "type": "audiosocket",
                "listen": f"127.0.0.1:{asterisk}",
                "role": "callee",
            },
        ],
        mqtt=mqtt(broker.port),
    )
    with Subscriber(broker.port) as reader, daemon:
        calls = [
            threading.Thread(target=twilio_call, args=(web, short_speech)),
            threading.Thread(target=audiosocket_call, args=(asterisk, short_speech)),
        ]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        for source in ("cloud", "pbx"):
            daemon.wait_for_leg(source, lambda leg: leg["ended"] is not None, f"{source} to end")
        messages = reader.settle(1.0)
        legs = {source: daemon.leg(source) for source in ("cloud", "pbx")}
        counters = daemon.status()["source_counters"]
        assert daemon.stop() == 0
    alerts = {alert[0].json["data"]["source"]: alert for alert in by_alert(messages).values()}
    assert set(alerts) == {"cloud", "pbx"}
    for source, codec, role in (("cloud", "PCMU", "caller"), ("pbx", "L16", "callee")):
        check_life(alerts[source])
        data = alerts[source][-1].json["data"]
        assert (data["codec"], data["leg_role"]) == (codec, role)
        assert data["cleared_reason"] == "call_ended"
        assert (legs[source]["ended"], legs[source]["heard_s"]) == ("hangup", 6.0)
        assert counters[source]["dropped"] == {}
