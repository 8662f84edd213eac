"""However a call ends, and from whichever side: its legs, its windows and its alert end with it."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr
from websockets.sync.client import ClientConnection, connect

from streamguard.audio.g711 import encode_ulaw
from streamguard.protocols.audiosocket import FrameType, build_frame
from streamguard.protocols.rtcp import build_bye
from streamguard.protocols.rtp import RtpPacket, build_packet
from streamguard.protocols.sip_message import SipResponse, SipStream
from tests.alerts.broker import Broker, Subscriber
from tests.captures import rtp_packets, stream
from tests.e2e.daemon import (
    Daemon,
    by_alert,
    check_life,
    free_rtp_ports,
    free_tcp_port,
    mqtt,
    rtp_source,
    wait_for,
)
from tests.protocols.siprec_rig import answer_of, mixed, tag_of
from tests.sources.sip_peer import Peer
from tools.capture_writer import RAW, Captured, udp, write_pcap

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

INACTIVITY_S = 2.0
Frames = list[npt.NDArray[np.int16]]


class Caller:
    """Somebody who speaks at real-time pace, and then ends the call in his own way."""

    def __init__(self, port: int) -> None:
        self.port = port

    def say(self, frame: npt.NDArray[np.int16]) -> None:
        raise NotImplementedError

    def end(self, how: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class RtpCaller(Caller):
    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._count = 0

    def say(self, frame: npt.NDArray[np.int16]) -> None:
        number = self._count
        self._count += 1
        packet = RtpPacket(0, False, number, 160 * number, 77, encode_ulaw(frame))
        self._sock.sendto(build_packet(packet), ("127.0.0.1", self.port))

    def end(self, how: str) -> None:
        if how == "said":
            self._sock.sendto(build_bye(77), ("127.0.0.1", self.port + 1))

    def close(self) -> None:
        self._sock.close()


class AsteriskCaller(Caller):
    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._sock.sendall(build_frame(FrameType.UUID, uuid.uuid4().bytes))

    def say(self, frame: npt.NDArray[np.int16]) -> None:
        self._sock.sendall(build_frame(0x10, frame.astype("<i2").tobytes()))

    def end(self, how: str) -> None:
        if how == "said":
            self._sock.sendall(build_frame(FrameType.HANGUP))
        elif how == "broken":
            # No more than a reset: as of a machine that lost its power and came back.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._sock.close()

    def close(self) -> None:
        self._sock.close()


class TwilioCaller(Caller):
    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._client: ClientConnection = connect(f"ws://127.0.0.1:{port}/twilio")
        self._count = 0
        media_format = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        start = {"callSid": "CA" + "7" * 32, "tracks": ["inbound"], "mediaFormat": media_format}
        self._send("connected")
        self._send("start", start=start)

    def _send(self, kind: str, **more: Any) -> None:
        event = {"event": kind, "sequenceNumber": str(self._count), **more}
        self._client.send(json.dumps(event))
        self._count += 1

    def say(self, frame: npt.NDArray[np.int16]) -> None:
        payload = base64.b64encode(encode_ulaw(frame)).decode()
        chunk = str(self._count - 1)
        self._send("media", media={"track": "inbound", "chunk": chunk, "payload": payload})

    def end(self, how: str) -> None:
        if how == "said":
            self._send("stop")

    def close(self) -> None:
        self._client.close()


OFFER = """\
v=0
o=sbc 1 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio {port} RTP/AVP 0
a=sendonly
"""


class SbcCaller(RtpCaller):
    """A session border controller that records a call of one line, over TCP."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._sock.bind(("127.0.0.1", 0))
        self._connection = socket.create_connection(("127.0.0.1", port))
        self._pen = Peer("TCP", asyncio.Queue(), self._connection.sendall)
        sdp = OFFER.format(port=self._sock.getsockname()[1])
        self._pen.send(self._pen.text("INVITE", body=mixed(sdp)))
        replies = SipStream()
        while True:
            for answer in replies.feed(self._connection.recv(65_536)):
                if isinstance(answer, SipResponse) and answer.status >= 200:
                    self._tag = tag_of(answer)
                    self.port = answer_of(answer).media[0].port
                    self._pen.send(self._pen.text("ACK", to_tag=self._tag))
                    return

    def end(self, how: str) -> None:
        if how == "said":
            self._pen.send(self._pen.text("BYE", to_tag=self._tag, number=2))

    def close(self) -> None:
        super().close()
        self._connection.close()


def write_capture(path: Path, frames: Frames, how: str) -> None:
    """A voice; then its BYE, or somebody else's datagrams for longer than anybody waits."""
    ends = ("192.0.2.1", 4_000), ("192.0.2.2", 5_000)
    captured = stream(rtp_packets(np.concatenate(frames), ssrc=77), *ends)
    after_s = captured[-1].time_s + 0.02
    if how == "said":
        control = [(host, port + 1) for host, port in ends]
        captured.append(Captured(after_s, udp(control[0], control[1], build_bye(77))))
    after = (Captured(after_s + second, udp(*ends, b"x")) for second in range(5))
    write_pcap(path, [*captured, *after], RAW)


def talk(caller: Caller, frames: Frames, how: str, over: threading.Event) -> None:
    """Speak, end in this way, and stay on the line until all is over."""
    started = threading.Event()  # never set: its wait is the pace
    try:
        for frame in frames:
            caller.say(frame)
            started.wait(0.019)
        caller.end(how)
        over.wait(60.0)
    finally:
        caller.close()


@pytest.fixture(scope="module")
def frames(short_speech: Path) -> Frames:
    samples, rate_hz = soundfile.read(short_speech, dtype="int16")
    narrow = soxr.resample(samples, rate_hz, 8_000)
    return [narrow[at : at + 160] for at in range(0, len(narrow) - 159, 160)]


ENDS = {
    "rtp-said": "hangup",
    "rtp-silent": "inactivity",
    "pbx-said": "hangup",
    "pbx-broken": "source_lost",
    "pbx-silent": "inactivity",
    "web-said": "hangup",
    "web-silent": "inactivity",
    "sbc-said": "hangup",
    "sbc-silent": "inactivity",
    "tape-said": "hangup",
    "tape-silent": "inactivity",
}
"""Source and way, and how the leg is said to have ended."""
CLEARED = {
    "hangup": ("call_ended", None),
    "inactivity": ("call_ended", "inactivity"),
    "source_lost": ("source_lost", None),
}


def sources_and_callers(
    folder: Path, frames: Frames
) -> tuple[list[dict[str, Any]], dict[str, Callable[[], Caller]]]:
    """Captures have no caller: they are played as soon as the daemon is up."""
    rtp = iter(free_rtp_ports(4))
    sources: list[dict[str, Any]] = []
    callers: dict[str, Callable[[], Caller]] = {}
    for name in ENDS:
        kind, _, how = name.partition("-")
        if kind == "tape":
            path = folder / f"{name}.pcap"
            write_capture(path, frames, how)
            capture = {"name": name, "type": "pcap", "paths": [str(path)], "speed": 0.0}
            sources.append({**capture, "inactivity_s": INACTIVITY_S})
            continue
        if kind == "rtp":
            port = next(rtp)
            sources.append(rtp_source(name, port, inactivity_s=INACTIVITY_S))
            callers[name] = partial(RtpCaller, port)
            continue
        port = free_tcp_port()
        if kind == "sbc":
            doors = {"listen": [{"transport": "tcp", "port": port}], "media_ports": [next(rtp)]}
            sources.append({"name": name, "type": "siprec", **doors, "inactivity_s": INACTIVITY_S})
            callers[name] = partial(SbcCaller, port)
            continue
        listen = {"listen": f"127.0.0.1:{port}", "inactivity_s": INACTIVITY_S}
        if kind == "pbx":
            sources.append({"name": name, "type": "audiosocket", **listen})
            callers[name] = partial(AsteriskCaller, port)
        else:
            paths = [{"dialect": "twilio"}]
            sources.append({"name": name, "type": "media_ws", "paths": paths, **listen})
            callers[name] = partial(TwilioCaller, port)
    return sources, callers


def test_an_end_from_any_side_ends_the_legs_the_windows_and_the_alert(
    tmp_path: Path, broker: Broker, frames: Frames, accuser: str
) -> None:
    sources, callers = sources_and_callers(tmp_path, frames)
    daemon = Daemon(tmp_path / "daemon", detector=accuser, sources=sources, mqtt=mqtt(broker.port))
    over = threading.Event()
    with Subscriber(broker.port) as reader, daemon, ExitStack() as stack:
        stack.callback(over.set)
        for name, make in callers.items():
            how = name.partition("-")[2]
            thread = threading.Thread(target=talk, args=(make(), frames, how, over))
            thread.start()
            stack.callback(thread.join, 10.0)
        for name in ENDS:
            daemon.wait_for_leg(
                name, lambda leg: leg["ended"] is not None, f"{name} to end", timeout_s=40.0
            )
        wait_for(lambda: daemon.status()["open_alerts"] == 0, "the alerts to be cleared")
        messages = reader.settle(1.0)
        ended = {name: daemon.leg(name)["ended"] for name in ENDS}
        status = daemon.status()
        active = daemon.metrics("calls_active")
        over.set()
        assert daemon.stop() == 0
    assert ended == ENDS
    assert not [leg for leg in status["legs"] if leg["live"]]
    assert set(active.values()) == {0.0}
    assert status["inference"]["depth"] == 0
    last = {alert[-1].json["data"]["source"]: alert for alert in by_alert(messages).values()}
    assert set(last) == set(ENDS)
    for name, alert in last.items():
        check_life(alert)
        data = alert[-1].json["data"]
        assert (data["cleared_reason"], data["cleared_detail"]) == CLEARED[ENDS[name]], name
