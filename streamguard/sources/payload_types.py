"""How a configuration says what RTP payload types carry, where no SDP does."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from streamguard.errors import MissingExtraError
from streamguard.protocols.rtp_codecs import PayloadFormat, parse_rtpmap


def _payload_format(value: Any) -> PayloadFormat:
    if isinstance(value, PayloadFormat):
        return value
    if not isinstance(value, str):
        raise ValueError('a codec as in SDP, such as "PCMU" or "opus/48000/2"')
    try:
        return parse_rtpmap(value)
    except MissingExtraError as err:
        raise ValueError(str(err)) from err


PayloadTypes = dict[
    Annotated[int, Field(ge=0, le=127)],
    Annotated[
        PayloadFormat,
        PlainValidator(_payload_format),
        PlainSerializer(str, return_type=str),
        WithJsonSchema({"type": "string"}),
    ],
]
"""Payload type numbers, and what each carries."""
