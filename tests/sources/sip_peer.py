"""A recording client on real sockets: it writes SIP, sends RTP and reads what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import numpy as np

from streamguard.clock import SystemClock
from streamguard.protocols.rtp import RtpPacket, build_packet
from streamguard.protocols.sip_message import (
    SipMessage,
    SipRequest,
    SipResponse,
    SipStream,
    parse_message,
)
from streamguard.sources.siprec import SiprecSource
from streamguard.sources.siprec_settings import SiprecSettings
from tests.protocols.siprec_rig import METADATA, crlf, mixed, tag_of
from tests.sources.collect import free_ports

OFFER = """\
v=0
o=peer 1 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio {first} RTP/AVP 0
a=sendonly
a=label:1
m=audio {second} RTP/AVP 0
a=sendonly
a=label:2
"""


def free_sip_port() -> int:
    """Free for UDP and TCP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                with contextlib.suppress(OSError):
                    udp.bind(("127.0.0.1", port))
                    return port


def make_source(
    sip_port: int, *transports: str, media_ports: int = 4, **more: object
) -> SiprecSource:
    """A source on loopback, with media ports of its own."""
    settings = SiprecSettings.model_validate(
        {
            "name": "sbc",
            "listen": [{"transport": t, "port": sip_port} for t in transports or ("udp", "tcp")],
            "media_ports": free_ports(media_ports),
            **more,
        }
    )
    return SiprecSource(settings, SystemClock())


@dataclass(slots=True)
class Peer:
    """One end of a connection, or a UDP socket."""

    transport: str
    reader: asyncio.Queue[SipMessage | None]
    send: Callable[[bytes], None]
    number: int = 0

    async def read(self) -> SipMessage:
        async with asyncio.timeout(10):
            message = await self.reader.get()
        assert message is not None, "the connection was closed"
        return message

    async def closed(self) -> None:
        async with asyncio.timeout(10):
            while await self.reader.get() is not None:
                pass

    async def final(self) -> SipResponse:
        while True:
            message = await self.read()
            if isinstance(message, SipResponse) and message.status >= 200:
                return message

    def text(
        self,
        method: str,
        *,
        call_id: str = "call",
        to_tag: str | None = None,
        number: int = 1,
        extra: str = "",
        body: tuple[str, bytes] | None = None,
    ) -> bytes:
        self.number += 1
        to = "<sip:srs@127.0.0.1>" + (f";tag={to_tag}" if to_tag else "")
        lines = [
            f"{method} sip:srs@127.0.0.1 SIP/2.0",
            f"Via: SIP/2.0/{self.transport} 127.0.0.1;branch=z9hG4bK{call_id}{self.number};rport",
            "From: <sip:src@127.0.0.1>;tag=peer",
            f"To: {to}",
            f"Call-ID: {call_id}",
            f"CSeq: {number} {method}",
            "Contact: <sip:src@127.0.0.1>;+sip.src",
        ]
        if method == "INVITE":
            lines.append("Require: siprec")
        if body:
            lines.append(f"Content-Type: {body[0]}")
        data = body[1] if body else b""
        head = "\n".join(lines) + f"\n{extra}Content-Length: {len(data)}\n\n"
        return crlf(head) + data

    async def invite(
        self, ports: tuple[int, int], call_id: str = "call", extra: str = ""
    ) -> SipResponse:
        """Place a call whose two voices come from these ports."""
        sdp = OFFER.format(first=ports[0], second=ports[1])
        self.send(self.text("INVITE", call_id=call_id, body=mixed(sdp, METADATA), extra=extra))
        answer = await self.final()
        if answer.status == 200:
            self.send(self.text("ACK", call_id=call_id, to_tag=tag_of(answer)))
        return answer

    async def bye(self, ok: SipResponse, call_id: str = "call") -> SipResponse:
        self.send(self.text("BYE", call_id=call_id, to_tag=tag_of(ok), number=2))
        return await self.final()

    def answer(self, request: SipRequest) -> None:
        """200 to a request of the server's."""
        kept = ("via", "from", "to", "call-id", "cseq")
        lines = ["SIP/2.0 200 OK", *(f"{k}: {v}" for k, v in request.headers if k in kept)]
        self.send(crlf("\n".join(lines) + "\nContent-Length: 0\n\n"))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, queue: asyncio.Queue[SipMessage | None]) -> None:
        self._queue = queue

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._queue.put_nowait(parse_message(data))


class _Stream(asyncio.Protocol):
    def __init__(self, queue: asyncio.Queue[SipMessage | None]) -> None:
        self._queue = queue
        self._stream = SipStream()

    def data_received(self, data: bytes) -> None:
        for item in self._stream.feed(data):
            if isinstance(item, SipRequest | SipResponse):
                self._queue.put_nowait(item)

    def connection_lost(self, exc: Exception | None) -> None:
        self._queue.put_nowait(None)


@contextlib.asynccontextmanager
async def peer(
    port: int, transport: str = "UDP", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Peer]:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[SipMessage | None] = asyncio.Queue()
    if transport == "UDP":
        endpoint, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(queue), remote_addr=("127.0.0.1", port)
        )
        send: Callable[[bytes], None] = endpoint.sendto
        close = endpoint.close
    else:
        connection, _ = await loop.create_connection(
            lambda: _Stream(queue), "127.0.0.1", port, ssl=tls
        )
        send, close = connection.write, connection.abort
    try:
        yield Peer(transport, queue, send)
    finally:
        close()
        await asyncio.sleep(0)


def speak(sock: socket.socket, port: int, first: int, count: int, payload: int = 0xD5) -> None:
    """So many packets of G.711 from a socket to a port of ours."""
    for index in range(first, first + count):
        data = bytes(np.full(160, (payload + index) & 0xFF, np.uint8))
        packet = RtpPacket(0, index == 0, index, 160 * index, 0x1234, data)
        sock.sendto(build_packet(packet), ("127.0.0.1", port))


def mouth() -> socket.socket:
    """A socket that RTP is sent from."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock
