"""Answering requests, with a transaction that remembers or (section 8.2.7) without one."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable

from streamguard.protocols.sip_dialog import make_response, response_flow
from streamguard.protocols.sip_message import SipRequest, serialise
from streamguard.protocols.sip_transaction import (
    Flow,
    Send,
    ServerTransaction,
    ServerTransactions,
    transaction_key,
)

HeaderPairs = Iterable[tuple[str, str]]


class Answers:
    """The server side of one source's SIP: every response goes out through here."""

    def __init__(self, limit: int, send: Callable[[Send], None]) -> None:
        self._transactions = ServerTransactions(limit)
        self._send = send
        self._tag_key = secrets.token_bytes(32)

    @property
    def is_full(self) -> bool:
        return self._transactions.is_full

    @property
    def transactions(self) -> ServerTransactions:
        return self._transactions

    def absorb(self, request: SipRequest, now: float) -> bool:
        """Whether the request was one that is answered already; ProtocolError as of parsing."""
        sends = self._transactions.absorb(request, now)
        for send in sends or ():
            self._send(send)
        return sends is not None

    def once(
        self,
        request: SipRequest,
        source: Flow,
        status: int,
        extra: HeaderPairs = (),
        *,
        reason: str | None = None,
    ) -> None:
        """Answer and forget: the same request again gets the same answer again."""
        tag = self._tag(request)
        response = make_response(request, source, status, reason=reason, local_tag=tag, extra=extra)
        self._send(Send(response_flow(request, source), serialise(response)))

    def begin(self, request: SipRequest, source: Flow) -> ServerTransaction:
        """Remember a request; the caller has looked whether there is room."""
        return self._transactions.begin(request, source, response_flow(request, source))

    def reply(
        self,
        transaction: ServerTransaction,
        status: int,
        now: float,
        extra: HeaderPairs = (),
        *,
        reason: str | None = None,
        tag: str | None = None,
        body: bytes = b"",
    ) -> None:
        """Answer a remembered request; ``tag`` is that of the dialog, where there is one."""
        request = transaction.request
        local_tag = tag or (self._tag(request) if status > 100 else None)
        response = make_response(
            request,
            transaction.source,
            status,
            reason=reason,
            local_tag=local_tag,
            extra=extra,
            body=body,
        )
        for send in self._transactions.respond(transaction, status, serialise(response), now):
            self._send(send)

    def _tag(self, request: SipRequest) -> str:
        """The same for the same request, without remembering it."""
        key = "\0".join(transaction_key(request, request.method)).encode("utf-8", "surrogateescape")
        return hmac.new(self._tag_key, key, hashlib.sha256).hexdigest()[:16]
