"""From a media line of SDP to what its payload types carry, as far as we can decode it."""

from __future__ import annotations

import logging
from collections import Counter

from streamguard.errors import MissingExtraError
from streamguard.protocols.rtp_codecs import PayloadFormat, payload_format
from streamguard.protocols.sdp import MediaLine

logger = logging.getLogger(__name__)


def formats_of(line: MediaLine, drops: Counter[str]) -> dict[int, PayloadFormat]:
    """By payload type, in the line's order of preference; a missing package is said once."""
    found: dict[int, PayloadFormat] = {}
    for one in line.maps:
        try:
            known = payload_format(one.payload_type, one.encoding, one.clock_hz, one.channels)
        except MissingExtraError as err:
            if not drops["codec_extra"]:
                logger.warning("a codec of a call is refused: %s", err)
            drops["codec_extra"] += 1
            continue
        if known is not None:
            found[one.payload_type] = known
    return found
