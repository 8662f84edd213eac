"""Telnyx media streaming: JSON over a WebSocket, RTP payloads in base64.

Telnyx documentation, "Stream call media over WebSocket": the order of media is not guaranteed, so
messages wait for a missing one. L16 is little endian, unlike in RTP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from streamguard.audio.decoders import Codec
from streamguard.events import LegRole
from streamguard.protocols.handshake import same
from streamguard.protocols.json_fields import JsonObject, object_in, text_in
from streamguard.protocols.numbered_media import Names, NumberedMedia

TOKEN_PARAMETER = "streamguard_token"  # noqa: S105  # the name of a parameter, not its value
_MAX_PARAMETERS = 64
_NAMES = Names(
    sequence="sequence_number",
    call="call_control_id",
    media_format="media_format",
    rate="sample_rate",
    parties="",
    encodings={codec.value.lower(): codec for codec in Codec if codec is not Codec.GSM},
)


class TelnyxSession(NumberedMedia):
    """One connection of a media stream; ``roles`` of ``inbound`` and ``outbound``."""

    def __init__(
        self,
        source: str,
        drops: Counter[str],
        roles: Mapping[str, LegRole],
        reorder_s: float,
        token: str | None = None,
    ) -> None:
        """With ``token`` no call begins unless a custom parameter of ``start`` carries it."""
        super().__init__(source, drops, _NAMES, roles, reorder_s)
        self._token = token

    def _begin(self, start: JsonObject, now: float) -> None:
        if self._token is None or same(_parameter(start, TOKEN_PARAMETER), self._token):
            super()._begin(start, now)
        else:
            self._refuse("unauthorized", f"start carries no valid {TOKEN_PARAMETER}")


def _parameter(start: JsonObject, name: str) -> str:
    """``custom_parameters`` is an object, or a list of name and value as in the API call."""
    listed = start.get("custom_parameters")
    if not isinstance(listed, list):
        return text_in(object_in(start, "custom_parameters"), name)
    for item in listed[:_MAX_PARAMETERS]:
        if isinstance(item, dict) and item.get("name") == name:
            return text_in(item, "value")
    return ""
