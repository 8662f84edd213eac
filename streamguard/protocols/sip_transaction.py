"""SIP transactions (RFC 3261 section 17, RFC 6026): who has been answered, and what is sent again.

Pure: time comes in as an argument, and what is to be sent comes out. Nothing here knows what a
request means. Tables are bounded; who asks for more than that is told so before a transaction is
made.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from streamguard.protocols.sip_message import SipRequest, top_via
from streamguard.protocols.sip_values import parse_cseq, parse_name_addr

T1_S = 0.5
T2_S = 4.0
T4_S = 5.0
TIMEOUT_S = 64 * T1_S
"""Timers B, F, H, J and L."""
MAX_REQUESTS = 8_192
"""Of our own that wait for an answer."""
_COOKIE = "z9hG4bK"

TransactionKey = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """A way back to a peer."""

    transport: str
    """UDP, TCP or TLS."""
    host: str
    port: int
    local: int
    """Which of our sockets or connections."""

    @property
    def is_reliable(self) -> bool:
        return self.transport != "UDP"


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes for a peer."""

    flow: Flow
    data: bytes


class State(enum.Enum):
    """Of a server transaction."""

    PROCEEDING = "proceeding"
    ACCEPTED = "accepted"
    """A 2xx to an INVITE, sent again until its ACK (RFC 6026)."""
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    """ACK has come; stragglers are absorbed."""


@dataclass(slots=True, eq=False)
class ServerTransaction:
    """One request and what we say to it; owned by its table."""

    key: TransactionKey
    request: SipRequest
    source: Flow
    """Where the request came from."""
    flow: Flow
    """Where responses go."""
    state: State = State.PROCEEDING
    response: bytes = b""
    resend_at: float = float("inf")
    interval_s: float = T1_S
    ends_at: float = float("inf")

    @property
    def is_invite(self) -> bool:
        return self.request.method == "INVITE"


class ServerTransactions:
    """Requests of peers. A transaction begins with :meth:`begin` and goes by itself."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._table: dict[TransactionKey, ServerTransaction] = {}

    def __len__(self) -> int:
        return len(self._table)

    @property
    def is_full(self) -> bool:
        return len(self._table) >= self._limit

    def absorb(self, request: SipRequest, now: float) -> list[Send] | None:
        """What a request that belongs to a known transaction brings about; None: it is new.

        Raises ProtocolError where the headers that tell cannot be read.
        """
        is_ack = request.method == "ACK"
        known = self._table.get(transaction_key(request, "INVITE" if is_ack else request.method))
        if known is None:
            return None
        if is_ack:
            if known.state is State.COMPLETED:
                known.state = State.CONFIRMED
                known.resend_at = float("inf")
                known.ends_at = now + (0.0 if known.flow.is_reliable else T4_S)
            # The ACK to a 2xx is a transaction of its own (section 13.2.2.4) unless the peer is
            # an old one that gives both the same branch.
            return None if known.state is State.ACCEPTED else []
        if known.state in (State.PROCEEDING, State.COMPLETED) and known.response:
            return [Send(known.flow, known.response)]
        return []

    def begin(self, request: SipRequest, source: Flow, flow: Flow) -> ServerTransaction:
        """``flow`` is where responses go. The caller has looked whether there is room."""
        key = transaction_key(request, request.method)
        transaction = ServerTransaction(key, request, source, flow)
        self._table[key] = transaction
        return transaction

    def invite_of(self, cancel: SipRequest) -> ServerTransaction | None:
        """The INVITE that a CANCEL means (section 9.2)."""
        return self._table.get(transaction_key(cancel, "INVITE"))

    def respond(
        self, transaction: ServerTransaction, status: int, data: bytes, now: float
    ) -> list[Send]:
        """Answer, and keep answering as the kind of request asks."""
        transaction.response = data
        reliable = transaction.flow.is_reliable
        if status >= 200:
            transaction.ends_at = now + TIMEOUT_S
            if not transaction.is_invite:
                transaction.state = State.COMPLETED
                if reliable:
                    transaction.ends_at = now
            elif status < 300:
                # Also over TCP: what is between us and the peer may not be (section 13.3.1.4).
                transaction.state = State.ACCEPTED
                transaction.resend_at = now + T1_S
            else:
                transaction.state = State.COMPLETED
                if not reliable:
                    transaction.resend_at = now + T1_S
        return [Send(transaction.flow, data)]

    def acknowledged(self, transaction: ServerTransaction) -> None:
        """The ACK to its 2xx has come; it only absorbs from here on."""
        transaction.resend_at = float("inf")
        transaction.state = State.CONFIRMED

    def poll(self, now: float) -> tuple[list[Send], list[ServerTransaction]]:
        """What is to be sent again by ``now``, and the 2xx that nobody has acknowledged."""
        sends: list[Send] = []
        unacknowledged: list[ServerTransaction] = []
        for transaction in list(self._table.values()):
            if now >= transaction.ends_at:
                del self._table[transaction.key]
                if transaction.state is State.ACCEPTED:
                    unacknowledged.append(transaction)
            elif now >= transaction.resend_at:
                sends.append(Send(transaction.flow, transaction.response))
                transaction.interval_s = min(2 * transaction.interval_s, T2_S)
                transaction.resend_at = now + transaction.interval_s
        return sends, unacknowledged


@dataclass(slots=True, eq=False)
class ClientTransaction:
    """One request of ours, not an INVITE (section 17.1.2)."""

    branch: str
    method: str
    owner: str
    """Whose dialog it is in."""
    send: Send
    resend_at: float
    interval_s: float
    ends_at: float


class ClientTransactions:
    """Requests that we have sent inside dialogs: BYE and UPDATE."""

    def __init__(self) -> None:
        self._table: dict[str, ClientTransaction] = {}

    def __len__(self) -> int:
        return len(self._table)

    def begin(self, branch: str, method: str, owner: str, send: Send, now: float) -> Send:
        """Remember it; of more than there is room for nothing is sent again."""
        if len(self._table) >= MAX_REQUESTS:
            return send
        resend_at = float("inf") if send.flow.is_reliable else now + T1_S
        self._table[branch] = ClientTransaction(
            branch, method, owner, send, resend_at, T1_S, now + TIMEOUT_S
        )
        return send

    def answered(self, branch: str, method: str, status: int) -> ClientTransaction | None:
        """The transaction that a final response ends; None of a provisional or stray one."""
        known = self._table.get(branch)
        if known is None or known.method != method:
            return None
        if status < 200:
            known.interval_s = T2_S
            return None
        return self._table.pop(branch)

    def poll(self, now: float) -> tuple[list[Send], list[ClientTransaction]]:
        """What is to be sent again by ``now``, and the requests that nobody has answered."""
        sends: list[Send] = []
        unanswered: list[ClientTransaction] = []
        for transaction in self:
            if now >= transaction.ends_at:
                unanswered.append(self._table.pop(transaction.branch))
            elif now >= transaction.resend_at:
                sends.append(transaction.send)
                transaction.interval_s = min(2 * transaction.interval_s, T2_S)
                transaction.resend_at = now + transaction.interval_s
        return sends, unanswered

    def __iter__(self) -> Iterator[ClientTransaction]:
        return iter(list(self._table.values()))


def transaction_key(request: SipRequest, method: str) -> TransactionKey:
    """What makes two requests one transaction (section 17.2.3). Raises ProtocolError.

    ``method`` is that of the transaction looked for: an ACK or CANCEL means an INVITE's.
    """
    headers = request.headers
    via = top_via(headers)
    sent_by = f"{via.host}:{via.port}".lower()
    branch = via.param("branch") or ""
    if branch.lower().startswith(_COOKIE.lower()):
        return (branch, sent_by, method)
    # RFC 2543: no branch to go by.
    number, _ = parse_cseq(headers.get("cseq") or "")
    caller = parse_name_addr(headers.get("from") or "").param("tag") or ""
    return (request.uri, sent_by, headers.get("call-id") or "", caller, str(number), method)
