"""baresip, a telephone: called parties answer it with a port of ours, and it speaks each codec."""

from __future__ import annotations

import contextlib
import functools
import re
import selectors
import shutil
import socket
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import soundfile
import soxr

from streamguard.events import Audio, Gap, LegStarted, SegmentStarted
from streamguard.protocols.rtp_codecs import payload_format
from tests.sources.collect import free_ports
from tests.sources.rtp_peers import SECONDS, Arrival, heard, likeness

pytestmark = [pytest.mark.peer, pytest.mark.timeout(90)]

CODECS = {
    "PCMU/8000/1": 0.97,
    "PCMA/8000/1": 0.97,
    "G722/16000/1": 0.95,
    "L16/16000/1": 0.97,
    "opus/48000/1": 0.8,
    "GSM/8000/1": 0.7,
}
"""As baresip calls them, and how alike the waveform must be."""
MODULES = Path("/usr/lib/baresip/modules")
CALL_S = 5
WAIT_S = 40.0


@dataclass(slots=True)
class Answerer:
    """Who is called: takes the first codec that is offered."""

    sip: socket.socket
    media_port: int
    arrivals: list[Arrival] = field(default_factory=list)
    format_text: str = ""
    payload_type: int = -1

    def read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, sender = self.sip.recvfrom(65_535)
                if data.startswith((b"INVITE", b"BYE")):
                    self.sip.sendto(self._answer(data.decode()), sender)

    def _answer(self, request: str) -> bytes:
        head, _, body = request.partition("\r\n\r\n")
        kept = [line for line in head.split("\r\n") if re.match("Via|From|To|Call-ID|CSeq", line)]
        lines = [f"{line};tag=us" if line.startswith("To:") else line for line in kept]
        sdp = ""
        offered = re.search(r"m=audio \d+ RTP/AVP (\d+)", body)
        if offered is not None:
            number = offered[1]
            rtpmap = re.search(rf"a=rtpmap:{number} ([A-Za-z0-9]+)/(\d+)(?:/(\d+))?", body)
            assert rtpmap is not None
            found = payload_format(
                int(number), rtpmap[1], int(rtpmap[2]), int(rtpmap[3]) if rtpmap[3] else None
            )
            assert found is not None
            self.payload_type, self.format_text = int(number), str(found)
            sdp = (
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
                f"m=audio {self.media_port} RTP/AVP {number}\r\n{rtpmap[0]}\r\n"
                "a=recvonly\r\na=ptime:20\r\n"
            )
        port = self.sip.getsockname()[1]
        lines += [f"Contact: <sip:b@127.0.0.1:{port}>", "Content-Type: application/sdp"]
        lines.append(f"Content-Length: {len(sdp)}")
        return "\r\n".join(["SIP/2.0 200 OK", *lines, "", sdp]).encode()


def write_configuration(folder: Path, sip_port: int, codec: str, said: Path) -> None:
    """A telephone without a registrar, a sound card or a person."""
    rate_hz = {"G722": 16_000, "L16": 16_000, "opus": 48_000}.get(codec.partition("/")[0], 8_000)
    folder.mkdir()
    samples, said_hz = soundfile.read(said)
    voice = folder / "said.wav"
    soundfile.write(voice, soxr.resample(samples, said_hz, rate_hz), rate_hz, subtype="PCM_16")
    modules = [("module", f"{name}.so") for name in "g711 g722 l16 opus gsm aufile".split()]
    modules += [("module_tmp", "account.so"), ("module_app", "menu.so")]
    settings = [
        ("sip_listen", f"127.0.0.1:{sip_port}"),
        ("audio_source", f"aufile,{voice}"),
        ("audio_player", "aufile,/dev/null"),
        ("audio_alert", "aufile,/dev/null"),
        ("ausrc_srate", str(rate_hz)),
        ("auplay_srate", str(rate_hz)),
        ("ausrc_channels", "1"),
        ("auplay_channels", "1"),
        ("opus_stereo", "no"),
        ("module_path", str(MODULES)),
        *modules,
    ]
    text = "".join(f"{key}\t{value}\n" for key, value in settings)
    (folder / "config").write_text(text)
    account = f"<sip:a@127.0.0.1;transport=udp>;regint=0;audio_codecs={codec};ptime=20\n"
    (folder / "accounts").write_text(account)
    (folder / "contacts").write_text("")


def calls(folder: Path, said: Path) -> dict[str, Answerer]:
    """All codecs at once, a telephone each."""
    answerers: dict[str, Answerer] = {}
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        phones = []
        for codec, port in zip(CODECS, free_ports(len(CODECS)), strict=True):
            sip, telephone, media = (
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                for _ in range(3)
            )
            for sock, number in ((sip, 0), (telephone, 0), (media, port)):
                sock.bind(("127.0.0.1", number))
                sock.setblocking(False)
            answerer = answerers[codec] = Answerer(sip, port)
            selector.register(sip, selectors.EVENT_READ, answerer.read)
            selector.register(
                media, selectors.EVENT_READ, functools.partial(_hear, media, answerer.arrivals)
            )
            home = folder / codec.partition("/")[0]
            write_configuration(home, telephone.getsockname()[1], codec, said)
            telephone.close()
            dial = f"/dial sip:b@127.0.0.1:{sip.getsockname()[1]}"
            command = ["baresip", "-f", str(home), "-e", dial, "-t", str(CALL_S)]
            with (home / "log").open("wb") as log:
                phones.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                )
        try:
            deadline = time.monotonic() + WAIT_S
            while time.monotonic() < deadline and any(one.poll() is None for one in phones):
                for key, _ in selector.select(0.1):
                    key.data()
        finally:
            for phone in phones:
                phone.kill()
                phone.wait()
    return answerers


def _hear(sock: socket.socket, arrivals: list[Arrival]) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            data, sender = sock.recvfrom(6_144)
            arrivals.append(Arrival(time.monotonic(), data, sender[1]))


@pytest.fixture(scope="module")
def said(voice: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of speech."""
    samples, rate_hz = soundfile.read(voice, dtype="int16")
    path = tmp_path_factory.mktemp("said") / "said.wav"
    soundfile.write(path, samples[: round(SECONDS * rate_hz)], rate_hz, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def answerers(said: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answerer]:
    if shutil.which("baresip") is None or not MODULES.is_dir():
        pytest.skip("baresip is not installed")
    pytest.importorskip("av", reason="needs the extra 'codecs'")
    return calls(tmp_path_factory.mktemp("baresip"), said)


@pytest.mark.parametrize("codec", CODECS)
def test_baresip_is_heard_in_each_codec_that_it_offers(
    codec: str, answerers: dict[str, Answerer], said: Path
) -> None:
    answerer = answerers[codec]
    assert answerer.arrivals, "no packet came"
    drops: Counter[str] = Counter()
    events = heard(answerer.arrivals, drops, {answerer.payload_type: answerer.format_text})
    (leg,) = [event for event in events if isinstance(event, LegStarted)]
    assert leg.codec == codec.partition("/")[0]
    assert not [e for e in events if isinstance(e, Gap | SegmentStarted)]
    spoken = sum(len(event.samples) for event in events if isinstance(event, Audio))
    assert spoken / leg.rate_hz > 0.9 * SECONDS
    assert likeness(events, leg.rate_hz, said) > CODECS[codec]
