"""Captures as Wireshark's own tools write them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from streamguard.clock import VirtualClock
from streamguard.events import CallEnded, LegRole, LegStarted, SourceEvent
from streamguard.protocols.pcap import CaptureParser, Frame
from streamguard.sources.pcap import PcapSource
from streamguard.sources.pcap_settings import PcapSettings
from tests.captures import sip_call, tone
from tests.sources.collect import samples_of
from tools.capture_writer import write_pcap

DATA = Path(__file__).parent.parent / "data" / "pcap"


def frames_of(path: Path) -> list[Frame]:
    parser = CaptureParser()
    frames = parser.feed(path.read_bytes())
    parser.finish()
    assert parser.problem is None
    return frames


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["pcap", "nsecpcap", "pcapng"])
def test_files_that_editcap_writes_hold_the_same_frames(tmp_path: Path, kind: str) -> None:
    editcap = shutil.which("editcap")
    if editcap is None:
        pytest.skip("editcap (wireshark-common) is not installed")
    ours, theirs = tmp_path / "ours.pcap", tmp_path / "theirs"
    write_pcap(ours, sip_call(tone(0.2), tone(0.2)), 101)
    subprocess.run([editcap, "-F", kind, ours, theirs], check=True, timeout=15)
    assert theirs.read_bytes() != ours.read_bytes() or kind == "pcap"
    found = frames_of(theirs)
    assert len(found) == 24
    assert found == frames_of(ours)


async def test_a_call_that_dumpcap_captured_on_loopback_is_heard() -> None:
    """``loopback.pcapng``: a call of our own, 0.8 s of a tone from either side; its header is
    without the lines about the machine."""
    events: list[SourceEvent] = []

    async def emit(event: SourceEvent) -> None:
        events.append(event)

    settings = PcapSettings(name="tap", paths=(DATA / "loopback.pcapng",))
    await PcapSource(settings, VirtualClock()).run(emit)
    legs = [event for event in events if isinstance(event, LegStarted)]
    assert {leg.role for leg in legs} == {LegRole.CALLER, LegRole.CALLEE}
    assert [len(samples_of(events, leg.leg)) for leg in legs] == [6_400, 6_400]
    assert sum(isinstance(event, CallEnded) for event in events) == 1
