"""From a section of the configuration to the source it describes."""

from __future__ import annotations

from streamguard.clock import Clock
from streamguard.sources.base import Source
from streamguard.sources.file import FileSource
from streamguard.sources.mic import MicSource
from streamguard.sources.rtp import RtpSource
from streamguard.sources.settings import FileSettings, MicSettings, RtpSettings


def make_source(settings: FileSettings | MicSettings | RtpSettings, clock: Clock) -> Source:
    match settings:
        case FileSettings():
            return FileSource(settings, clock)
        case MicSettings():
            return MicSource(settings, clock)
        case RtpSettings():
            return RtpSource(settings, clock)
