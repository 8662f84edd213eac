"""A recorded call of SIPp, from its INVITE to the verdict and its end."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import soundfile

from tests.e2e.daemon import Daemon, free_rtp_ports, free_tcp_port
from tests.sources import sipp

pytestmark = [pytest.mark.peer, pytest.mark.timeout(90)]


def test_the_voice_of_a_recorded_caller_is_judged_until_the_call_ends(
    tmp_path: Path, short_speech: Path, accuser: str
) -> None:
    if shutil.which("sipp") is None:
        pytest.skip("sipp is not installed")
    narrow = tmp_path / "narrow.wav"
    convert = ["ffmpeg", "-v", "error", "-i", str(short_speech), "-ar", "8000", str(narrow)]
    subprocess.run(convert, check=True)
    audio = tmp_path / "audio.pcap"
    sipp.write_audio(audio, soundfile.read(narrow, dtype="int16")[0])
    port, media = free_tcp_port(), free_rtp_ports(3)
    siprec = {
        "name": "sbc",
        "type": "siprec",
        "listen": [{"transport": "tcp", "port": port}],
        "media_ports": media[:2],
        "max_calls": 1,
    }
    words = sipp.command(tmp_path, audio, 6_500, port, "tcp", media[2], "-m", "1")
    with Daemon(tmp_path / "daemon", detector=accuser, sources=[siprec]) as daemon:
        ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        if "Operation not permitted" in ended.stdout + ended.stderr:
            pytest.skip("sipp may not open the raw socket that it plays captures with")
        assert ended.returncode == 0, ended.stdout
        daemon.wait_for_leg("sbc", lambda leg: leg["ended"] is not None, "the call to end")
        legs = {leg["role"]: leg for leg in daemon.legs("sbc")}
        assert daemon.stop() == 0
        assert "1001" not in daemon.log.read_text()
    caller, callee = legs["caller"], legs["callee"]
    assert (caller["state"], caller["ended"], caller["codec"]) == ("SPOOF", "hangup", "PCMA")
    assert caller["windows"]["scored"] >= 5
    assert (callee["state"], callee["heard_s"]) == ("UNKNOWN", 0.0)
