"""Twilio Media Streams: JSON over a WebSocket, mu-law in base64.

Twilio documentation, "Media Streams - WebSocket Messages". Numbers inside ``media`` are strings.
The connection keeps the order; a number that is missing was thrown away by Twilio (warning 31930).
Telephone numbers come only where the TwiML names them as parameters, ``from`` and ``to``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from streamguard.audio.decoders import Codec
from streamguard.events import LegRole
from streamguard.protocols.numbered_media import Names, NumberedMedia

_NAMES = Names(
    sequence="sequenceNumber",
    call="callSid",
    media_format="mediaFormat",
    rate="sampleRate",
    parties="customParameters",
    encodings={"audio/x-mulaw": Codec.PCMU},
)


def twilio_session(source: str, drops: Counter[str], roles: Mapping[str, LegRole]) -> NumberedMedia:
    """One connection of a ``<Stream>``; ``roles`` of ``inbound`` and ``outbound``."""
    return NumberedMedia(source, drops, _NAMES, roles, reorder_s=0.0)
