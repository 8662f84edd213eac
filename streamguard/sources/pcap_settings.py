"""Configuration of the replay of captures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from streamguard.events import LegRole
from streamguard.settings import Section
from streamguard.sources.payload_types import PayloadTypes
from streamguard.sources.section import SourceName


class PcapSettings(Section):
    """Replay of network captures: every call that is signalled, or found by its RTP."""

    type: Literal["pcap"] = Field(default="pcap", description="Replay captures of the network")
    name: SourceName = Field(description="Name of the source in topics, metrics and alerts")
    paths: tuple[Path, ...] = Field(
        min_length=1, description="pcap or pcapng files, played one after the other"
    )
    speed: float = Field(
        default=1.0,
        ge=0.0,
        le=1000.0,
        description="1 is real time, N is N times faster, 0 is as fast as they are consumed",
    )
    loop: bool = Field(default=False, description="Start again after the last file")
    max_pause_s: float = Field(
        default=60.0,
        gt=0.0,
        le=86_400.0,
        description="A longer silence of the whole capture is played as one of this length",
    )
    payload_types: PayloadTypes = Field(
        default={0: "PCMU", 8: "PCMA", 11: "L16/44100", 13: "CN", 101: "telephone-event"},
        validate_default=True,
        description="What payload types carry, as in SDP, in RTP that no captured SDP announces",
    )
    bare_packets: int = Field(
        default=5,
        ge=0,
        le=100,
        description="RTP that no SDP announces is a call from so many packets that agree; 0: never",
    )
    role: LegRole = Field(
        default=LegRole.UNKNOWN, description="Who speaks where no SIP says: caller, callee, ..."
    )
    inactivity_s: float = Field(
        default=15.0, gt=0.0, le=3600.0, description="A call ends after this long without a packet"
    )
    silence_inactivity_s: float = Field(
        default=60.0,
        gt=0.0,
        le=3600.0,
        description="The same for legs on hold, or whose sender announced silence (comfort noise)",
    )
    jitter_ms: float = Field(
        default=60.0,
        ge=0.0,
        le=1000.0,
        description="How long packets wait for a missing one; a clean stream does not wait",
    )
    max_legs: int = Field(
        default=256, ge=1, le=10_000, description="Legs at a time; further ones are left out"
    )
