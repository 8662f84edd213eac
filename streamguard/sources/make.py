"""From a section of the configuration to the source it describes."""

from __future__ import annotations

from streamguard.clock import Clock
from streamguard.sources.audiosocket import AudioSocketSource
from streamguard.sources.audiosocket_settings import AudioSocketSettings
from streamguard.sources.base import Source
from streamguard.sources.file import FileSource
from streamguard.sources.media_ws import MediaWsSource
from streamguard.sources.media_ws_settings import MediaWsSettings
from streamguard.sources.mic import MicSource
from streamguard.sources.pcap import PcapSource
from streamguard.sources.pcap_settings import PcapSettings
from streamguard.sources.rtp import RtpSource
from streamguard.sources.settings import FileSettings, MicSettings, RtpSettings, SourceSettings
from streamguard.sources.siprec import SiprecSource
from streamguard.sources.siprec_settings import SiprecSettings


def make_source(settings: SourceSettings, clock: Clock) -> Source:
    match settings:
        case FileSettings():
            return FileSource(settings, clock)
        case MicSettings():
            return MicSource(settings, clock)
        case RtpSettings():
            return RtpSource(settings, clock)
        case AudioSocketSettings():
            return AudioSocketSource(settings, clock)
        case MediaWsSettings():
            return MediaWsSource(settings, clock)
        case PcapSettings():
            return PcapSource(settings, clock)
        case SiprecSettings():
            return SiprecSource(settings, clock)
