"""A recording session's dialog and its clocks: who refreshes it, and when it is given up."""

from __future__ import annotations

from dataclasses import dataclass

from streamguard.errors import ProtocolError
from streamguard.protocols.sip_dialog import Dialog
from streamguard.protocols.sip_message import Headers, SipRequest
from streamguard.protocols.sip_transaction import ServerTransaction
from streamguard.protocols.sip_values import parse_params
from streamguard.protocols.siprec_session import RecordedCall

MIN_SESSION_S = 90
"""RFC 4028 section 4: shorter sessions are more signalling than call."""
MAX_SESSION_S = 86_400
_LAST_MOMENT_S = 32.0
"""How long before a session expires it is given up: a third of it at most (section 10)."""


@dataclass(slots=True, eq=False)
class Call:
    """One dialog with its recording; owned by the server."""

    dialog: Dialog
    recording: RecordedCall
    pending: ServerTransaction | None
    """An INVITE of which the 2xx is not acknowledged."""
    allows_update: bool
    established: bool = False
    """Whether its first ACK has come."""
    cancelled: bool = False
    """The peer gave up before its ACK: we hang up when that is there (RFC 3261 section 15)."""
    expires_at: float = float("inf")
    refresh_at: float = float("inf")
    session_s: int = 0
    least_s: int = MIN_SESSION_S
    """The least interval that either side takes."""

    def refreshed(self, timer: SessionTimer | None, now: float) -> None:
        """The session has been set up or refreshed, by either side."""
        if timer is None:
            self.expires_at = self.refresh_at = float("inf")
            self.session_s = 0
            return
        self.session_s = timer.interval_s
        self.expires_at = now + timer.interval_s - min(_LAST_MOMENT_S, timer.interval_s / 3)
        self.refresh_at = now + timer.interval_s / 2 if timer.by_us else float("inf")


@dataclass(frozen=True, slots=True)
class SessionTimer:
    """What was agreed on (RFC 4028)."""

    interval_s: int
    by_us: bool
    """Whether we are the one to refresh."""

    def headers(self) -> list[tuple[str, str]]:
        """Of a 2xx to an INVITE or UPDATE of the peer."""
        refresher = "uas" if self.by_us else "uac"
        value = ("session-expires", f"{self.interval_s};refresher={refresher}")
        # Only a peer that refreshes must understand the timer (section 9).
        return [value] if self.by_us else [value, ("require", "timer")]


class IntervalTooSmallError(Exception):
    """The peer asks for a shorter session than we take: 422 with Min-SE."""


def agree_on_timer(
    request: SipRequest, default_s: int, *, allows_update: bool
) -> SessionTimer | None:
    """The timer that an answer to this INVITE or UPDATE names; None: there is none.

    The peer refreshes wherever it may: it is the one that knows whether the call goes on. Raises
    IntervalTooSmallError, and ProtocolError where the header cannot be read.
    """
    headers = request.headers
    asked = read_session_expires(headers)
    supported = "timer" in headers.tokens("supported") | headers.tokens("require")
    if asked is None:
        least_s = max(default_s, read_min_se(headers))
        return SessionTimer(least_s, by_us=False) if supported else None
    interval_s, refresher = asked
    if interval_s < MIN_SESSION_S:
        if supported:
            raise IntervalTooSmallError
        return None
    if supported and refresher != "uas":
        return SessionTimer(interval_s, by_us=False)
    # It is for us to refresh, which we do by UPDATE, or not at all: then nothing is promised, and
    # a peer that dies is noticed by its silence.
    return SessionTimer(interval_s, by_us=True) if allows_update else None


def read_session_expires(headers: Headers) -> tuple[int, str] | None:
    """Seconds, and ``uac``, ``uas`` or nothing. Raises ProtocolError."""
    value = headers.get("session-expires")
    if value is None:
        return None
    number, _, params = value.partition(";")
    return _seconds(number), dict(parse_params(params)).get("refresher", "").lower()


def read_min_se(headers: Headers) -> int:
    """The least interval that the peer takes; 0 where none is named. Raises ProtocolError."""
    return _seconds((headers.get("min-se") or "0").partition(";")[0])


def _seconds(number: str) -> int:
    number = number.strip()
    if not number.isascii() or not number.isdigit() or len(number) > 9:
        raise ProtocolError("sip", "session_expires")
    return min(int(number), MAX_SESSION_S)
