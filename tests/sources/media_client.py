"""What the tests of the media WebSocket server share: a server, and a client that is not ours.

The client is the ``websockets`` package; our server is built on aiohttp, so a misunderstanding of
the protocol in one is not repeated in the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from streamguard.audio.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw
from streamguard.clock import SystemClock
from streamguard.events import CallEnded, EndReason
from streamguard.sources.media_ws import MediaWsSource
from streamguard.sources.media_ws_settings import MediaWsSettings
from tests.protocols.media_play import Message, sine
from tests.sources.collect import Collector, samples_of


def source_with(*paths: dict[str, Any], **values: Any) -> MediaWsSource:
    settings = {"name": "cloud", "listen": "127.0.0.1:0", "paths": paths, **values}
    return MediaWsSource(MediaWsSettings.model_validate(settings), SystemClock())


def url(source: MediaWsSource, path: str, scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{source.port}{path}"


async def send(client: ClientConnection, messages: Iterable[Message]) -> None:
    for message in messages:
        await client.send(message.content)


def ends(collector: Collector) -> list[EndReason]:
    return [event.reason for event in collector.events if isinstance(event, CallEnded)]


async def until_ended(collector: Collector, count: int = 1) -> list[EndReason]:
    await collector.until(lambda: len(ends(collector)) == count)
    return ends(collector)


def heard(collector: Collector) -> list[np.ndarray[Any, Any]]:
    return [samples_of(collector.events, leg.leg) for leg in collector.legs()]


def ulaw(hertz: int, count: int = 1_600) -> np.ndarray[Any, Any]:
    return decode_ulaw(encode_ulaw(sine(8_000, count, hertz)))


def alaw(hertz: int) -> np.ndarray[Any, Any]:
    return decode_alaw(encode_alaw(sine(8_000, 1_600, hertz)))


def wide(hertz: int) -> np.ndarray[Any, Any]:
    return sine(16_000, 3_200, hertz)


async def refused(source: MediaWsSource, path: str, **headers: str) -> int:
    """Status with which a connection is refused; 0 where it is not."""
    try:
        async with connect(url(source, path), additional_headers=headers, open_timeout=5):
            return 0
    except InvalidStatus as err:
        return err.response.status_code
