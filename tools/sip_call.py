"""The signalling of one plain call, for captures of our own making."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tools.capture_writer import Endpoint

RTPMAPS = {
    0: "PCMU/8000",
    8: "PCMA/8000",
    9: "G722/8000",
    13: "CN/8000",
    101: "telephone-event/8000",
}


@dataclass(frozen=True, slots=True)
class SipCall:
    """Who calls whom, and where both want to receive."""

    call_id: str = "a84b4c76e66710@pc33.example.com"
    caller: Endpoint = ("192.0.2.1", 5060)
    callee: Endpoint = ("192.0.2.2", 5060)
    caller_media: Endpoint = ("192.0.2.1", 40_000)
    callee_media: Endpoint = ("192.0.2.2", 50_000)
    payload_types: tuple[int, ...] = (0, 8, 13, 101)

    def invite(self, *, direction: str = "sendrecv", cseq: int = 1, again: bool = False) -> bytes:
        """The offer; ``again`` is a re-INVITE."""
        return self._request("INVITE", cseq, self.offer(direction), to_tag=again)

    def offer(self, direction: str = "sendrecv") -> bytes:
        return self._sdp(self.caller_media, direction)

    def answer(
        self, status: str = "200 OK", *, cseq: int = 1, direction: str = "sendrecv"
    ) -> bytes:
        """To the INVITE, with a description; also of early media (``183 Session Progress``)."""
        return self._response(status, "INVITE", cseq, self._sdp(self.callee_media, direction))

    def refusal(self, status: str, *, cseq: int = 1) -> bytes:
        return self._response(status, "INVITE", cseq)

    def ack(self, cseq: int = 1) -> bytes:
        return self._request("ACK", cseq, to_tag=True)

    def bye(self, cseq: int = 2) -> bytes:
        return self._request("BYE", cseq, to_tag=True)

    def cancel(self, cseq: int = 1) -> bytes:
        return self._request("CANCEL", cseq)

    def reversed(self) -> SipCall:
        """As the callee asks within the call."""
        return dataclasses.replace(
            self,
            caller=self.callee,
            callee=self.caller,
            caller_media=self.callee_media,
            callee_media=self.caller_media,
        )

    def request_of_callee(self, method: str, cseq: int, body: bytes = b"") -> bytes:
        """A request in the other direction: the callee's tag is in From."""
        host = self.callee[0]
        head = (
            f"{method} sip:alice@{self.caller[0]} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {host};branch=z9hG4bKcallee{cseq}{method}\r\n"
            "From: <sip:bob@example.com>;tag=callee\r\nTo: <sip:alice@example.com>;tag=caller\r\n"
        )
        return self._rest(head, method, cseq, body)

    def _request(self, method: str, cseq: int, body: bytes = b"", *, to_tag: bool = False) -> bytes:
        tag = ";tag=callee" if to_tag else ""
        head = (
            f"{method} sip:bob@{self.callee[0]} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {self.caller[0]};branch=z9hG4bK{cseq}{method}\r\n"
            f"From: <sip:alice@example.com>;tag=caller\r\nTo: <sip:bob@example.com>{tag}\r\n"
        )
        return self._rest(head, method, cseq, body)

    def _response(self, status: str, method: str, cseq: int, body: bytes = b"") -> bytes:
        head = (
            f"SIP/2.0 {status}\r\n"
            f"Via: SIP/2.0/UDP {self.caller[0]};branch=z9hG4bK{cseq}{method}\r\n"
            "From: <sip:alice@example.com>;tag=caller\r\nTo: <sip:bob@example.com>;tag=callee\r\n"
        )
        return self._rest(head, method, cseq, body)

    def _rest(self, head: str, method: str, cseq: int, body: bytes) -> bytes:
        head += f"Call-ID: {self.call_id}\r\nCSeq: {cseq} {method}\r\n"
        if body:
            head += "Content-Type: application/sdp\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def _sdp(self, media: Endpoint, direction: str) -> bytes:
        family = "IP6" if ":" in media[0] else "IP4"
        lines = [
            "v=0",
            f"o=- 1 1 IN {family} {media[0]}",
            "s=-",
            f"c=IN {family} {media[0]}",
            "t=0 0",
            f"m=audio {media[1]} RTP/AVP {' '.join(map(str, self.payload_types))}",
            *(f"a=rtpmap:{number} {RTPMAPS[number]}" for number in self.payload_types),
            f"a={direction}",
        ]
        return ("\r\n".join(lines) + "\r\n").encode()
