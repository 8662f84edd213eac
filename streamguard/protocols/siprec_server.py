"""A session recording server (RFC 7866): SIP requests in; answers, recorded calls and events out.

Sans-I/O: bytes are sent, ports opened and time told by whoever owns it. Everything that a peer can
make it remember is bounded: calls and transactions by their limits, and a host by its rate.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter

from streamguard.errors import ProtocolError
from streamguard.events import EndReason
from streamguard.protocols.digest import DigestGate, Outcome
from streamguard.protocols.sip_answers import Answers, HeaderPairs
from streamguard.protocols.sip_dialog import Dialog, check_request
from streamguard.protocols.sip_message import (
    SipMessage,
    SipRequest,
    SipResponse,
    serialise,
    top_via,
)
from streamguard.protocols.sip_transaction import ClientTransactions, Flow, Send, ServerTransaction
from streamguard.protocols.sip_values import parse_cseq, parse_name_addr
from streamguard.protocols.siprec_call import (
    MIN_SESSION_S,
    Call,
    SessionTimer,
    agree_on_timer,
    read_min_se,
    read_session_expires,
)
from streamguard.protocols.siprec_offer import RecordingOffer, read_offer
from streamguard.protocols.siprec_refusals import ACCEPT, Refusals
from streamguard.protocols.siprec_rules import Hands, ServerRules
from streamguard.protocols.siprec_session import RecordedCall

logger = logging.getLogger(__name__)

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE"
SUPPORTED = "siprec, timer"
UNDERSTOOD = frozenset({"siprec", "timer", "100rel"})
"""What a Require may name. Of 100rel nothing is asked: only 100 is sent before a final answer."""
_ABOUT_US = (("allow", ALLOW), ("accept", ACCEPT), ("supported", SUPPORTED))
LOOK_S = 0.5
"""How often every call is looked at; seconds matter here, not packets."""
REFRESH_AGAIN_S = 10.0
"""After a refresh of ours that was refused; the least interval leaves time for one more."""
TRANSACTIONS_PER_CALL = 4
TRANSACTIONS_BESIDE = 256


class SiprecServer:
    """All recording sessions of one source; ``drops`` is shared and counts by reason."""

    def __init__(
        self,
        source: str,
        rules: ServerRules,
        hands: Hands,
        drops: Counter[str],
        gate: DigestGate | None = None,
    ) -> None:
        self._source = source
        self._rules = rules
        self._hands = hands
        self._drops = drops
        self._gate = gate
        room = TRANSACTIONS_PER_CALL * rules.max_calls + TRANSACTIONS_BESIDE
        self._answers = Answers(room, hands.send)
        self._requests = ClientTransactions()
        self._calls: dict[str, Call] = {}
        """By our tag, which nobody can guess."""
        self._refusals = Refusals(source, self._answers, drops, rules.retry_after_s)
        self._look_at = 0.0
        self.refusal: str | None = None
        """Why new calls are answered 503, if they are; a word for the counters."""

    @property
    def calls(self) -> int:
        """Those that are up."""
        return len(self._calls)

    def has_calls_of(self, flow: Flow) -> bool:
        """Whether a call was last heard over this flow."""
        return any(call.dialog.flow == flow for call in self._calls.values())

    def receive(self, message: SipMessage, flow: Flow, now: float) -> None:
        """Take one message. What cannot be used is counted; nothing is raised."""
        try:
            if isinstance(message, SipResponse):
                self._answered(message, now)
            else:
                self._request(message, flow, now)
        except ProtocolError as err:
            self._refusals.count(f"{err.protocol}_{err.reason}")

    def poll(self, now: float) -> None:
        """Let time pass: what is due is sent again, what is over ends."""
        sends, unacknowledged = self._answers.transactions.poll(now)
        again, unanswered = self._requests.poll(now)
        for send in (*sends, *again):
            self._hands.send(send)
        lost = {id(transaction) for transaction in unacknowledged}
        for call in [c for c in self._calls.values() if lost and id(c.pending) in lost]:
            self._hang_up(call, EndReason.INACTIVITY, "its ACK never came", now)
        for request in unanswered:
            silent = self._calls.get(request.owner)
            if silent is not None:
                self._hang_up(silent, EndReason.INACTIVITY, "the peer does not answer", now)
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._look(now)

    def _look(self, now: float) -> None:
        """At every call: is it still one?"""
        rules = self._rules
        for call in list(self._calls.values()):
            if now >= call.expires_at:
                self._hang_up(call, EndReason.INACTIVITY, "the session timer ran out", now)
            elif call.cancelled:
                pass  # it is over already, and waits for its ACK
            elif call.recording.is_quiet(now, rules.inactivity_s, rules.silence_inactivity_s):
                self._hang_up(call, EndReason.INACTIVITY, "no audio came any more", now)
            elif now >= call.refresh_at:
                call.refresh_at = float("inf")
                timer = ("session-expires", f"{call.session_s};refresher=uac")
                about = (("supported", "timer"), timer, ("min-se", str(call.least_s)))
                self._ask(call, "UPDATE", now, (*about, self._contact(call.dialog.flow)))

    def disconnected(self, flow: Flow, now: float) -> None:
        """A connection is gone. Its calls go on unless the rules say otherwise: their audio has a
        way of its own, and the peer may come back."""
        if self._rules.end_on_disconnect:
            for call in [c for c in self._calls.values() if c.dialog.flow == flow]:
                self._end(call, EndReason.SOURCE_LOST, "its connection was closed", now)

    def hang_up_all(self, now: float) -> None:
        """Say BYE to every peer, once; for when the source goes. No events: its owner tells."""
        for call in self._calls.values():
            self._ask(call, "BYE", now)
        self._calls.clear()

    # Requests outside calls.

    def _request(self, request: SipRequest, flow: Flow, now: float) -> None:
        problem = check_request(request)
        if problem is not None:
            self._refusals.count("bad_request")
            if request.method != "ACK" and self._hands.allows(flow.host, now):
                self._answers.once(request, flow, 400, reason=problem)
            return
        if self._answers.absorb(request, now):
            return
        tag = parse_name_addr(request.headers.get("to") or "").param("tag")
        if request.method == "CANCEL":
            self._cancel(request, flow, now)
        elif tag:
            self._inside(request, flow, self._find(request, tag), now)
        elif request.method != "ACK":
            self._outside(request, flow, now)

    def _outside(self, request: SipRequest, flow: Flow, now: float) -> None:
        """A request that belongs to no call. Only an INVITE that may come in is remembered."""
        once = self._answers.once
        if not self._hands.allows(flow.host, now):
            self._refusals.count("rate")
            if request.method == "INVITE":
                once(request, flow, 503, self._refusals.retry_after)
        elif request.method == "OPTIONS":
            if self.refusal is not None:
                once(request, flow, 503, self._refusals.retry_after)
            else:
                once(request, flow, 200, _ABOUT_US)
        elif request.method in ("BYE", "UPDATE"):
            once(request, flow, 481)
        elif request.method != "INVITE":
            once(request, flow, 405, (("allow", ALLOW),))
        elif self._answers.is_full:
            self._refusals.count("busy")
            once(request, flow, 503, self._refusals.retry_after)
        elif self._may_enter(request, flow, now):
            transaction = self._answers.begin(request, flow)
            self._answers.reply(transaction, 100, now)
            # Whatever cannot be read in it: without a final answer it would take its room for ever.
            self._refusals.tried(transaction, now, lambda: self._invite(transaction, now))

    def _may_enter(self, request: SipRequest, flow: Flow, now: float) -> bool:
        """Digest. Challenges are not remembered: they would be the cheapest way to fill us up."""
        if self._gate is None:
            return True
        stale = False
        for value in request.headers.all("authorization"):
            try:
                outcome = self._gate.check(value, request.method, now)
            except ProtocolError:
                outcome = Outcome.REFUSED
            if outcome is Outcome.ACCEPTED:
                return True
            stale = stale or outcome is Outcome.STALE
            if outcome is Outcome.REFUSED:
                self._refusals.count("credentials")
        challenges = self._gate.challenges(now, stale=stale)
        self._answers.once(request, flow, 401, [("www-authenticate", one) for one in challenges])
        return False

    def _invite(self, transaction: ServerTransaction, now: float) -> None:
        """A new call, or why not."""
        request = transaction.request
        reply = self._answers.reply
        if not request.uri.lower().startswith(("sip:", "sips:")):
            reply(transaction, 416, now)
            return
        required = request.headers.items("require")
        unknown = [one for one in required if one.lower() not in UNDERSTOOD]
        if unknown:
            reply(transaction, 420, now, (("unsupported", ", ".join(unknown)),))
            return
        if self.refusal is not None or len(self._calls) >= self._rules.max_calls:
            self._refusals.busy(transaction, self.refusal or "busy", now)
            return
        offer = self._read(transaction, now)
        if offer is None:
            return
        if not offer.is_siprec:
            # An ordinary call: there is nobody here to talk to. A 420 has to name an extension
            # (RFC 3261 section 21.4.15), and one that a caller does not use makes it try no more.
            self._refusals.count("not_siprec")
            why = "Bad Extension (SIPREC Only)"
            reply(transaction, 420, now, (("unsupported", "siprec"),), reason=why)
        elif offer.sdp is None:
            reply(transaction, 488, now)
        else:
            self._open(transaction, offer, now)

    def _open(self, transaction: ServerTransaction, offer: RecordingOffer, now: float) -> None:
        request, hands = transaction.request, self._hands
        recording = RecordedCall(
            self._source,
            hands.new_id(),
            hands.media,
            hands.emit,
            hands.new_id,
            self._drops,
            hands.media_host,
            transaction.source.host,
            srtp=self._rules.srtp,
        )
        tag = secrets.token_hex(8)
        dialog = self._refusals.tried(
            transaction, now, lambda: Dialog.of(request, tag, transaction.flow)
        )
        if dialog is None:
            return
        allows_update = "update" in request.headers.tokens("allow")
        call = Call(dialog, recording, transaction, allows_update)
        if self._renew(transaction, call, offer, now):
            self._calls[tag] = call
            logger.info("source %s: call %s begins", self._source, recording.call)

    def _cancel(self, request: SipRequest, flow: Flow, now: float) -> None:
        """Too late for the INVITE, which is answered at once; but the peer wants no call."""
        invite = self._answers.transactions.invite_of(request)
        if invite is None:
            if self._hands.allows(flow.host, now):
                self._answers.once(request, flow, 481)
            return
        self._answers.once(request, flow, 200)
        for call in self._calls.values():
            if call.pending is invite and not call.established and not call.cancelled:
                call.cancelled = True
                logger.info("source %s: call %s ends: CANCEL", self._source, call.recording.call)
                call.recording.end(EndReason.HANGUP, now)

    # Requests inside calls.

    def _find(self, request: SipRequest, tag: str) -> Call | None:
        """The call of a request: by our tag, the peer's and the Call-ID."""
        call = self._calls.get(tag)
        if call is None:
            return None
        dialog, headers = call.dialog, request.headers
        remote = parse_name_addr(headers.get("from") or "").param("tag")
        same = dialog.call_id == headers.get("call-id") and dialog.remote_tag == remote
        return call if same else None

    def _inside(self, request: SipRequest, flow: Flow, call: Call | None, now: float) -> None:
        reply = self._answers.reply
        if request.method == "ACK":
            if call is not None:
                self._acknowledge(request, call, now)
            return
        if call is None:
            if self._hands.allows(flow.host, now):
                self._answers.once(request, flow, 481)
            return
        number, _ = parse_cseq(request.headers.get("cseq") or "")
        in_order = number > call.dialog.remote_cseq
        # A BYE that ends a call is always taken: no flood may keep calls up that are over.
        if self._answers.is_full and not (in_order and request.method == "BYE"):
            self._refusals.count("busy")
            self._answers.once(request, flow, 503, self._refusals.retry_after)
            return
        transaction = self._answers.begin(request, flow)
        if not in_order:
            reply(transaction, 500, now, reason="CSeq Out Of Order")
            return
        call.dialog.remote_cseq = number
        call.dialog.flow = transaction.flow
        match request.method:
            case "BYE":
                reply(transaction, 200, now)
                self._end(call, EndReason.HANGUP, "BYE", now)
            case "INVITE" | "UPDATE" if call.cancelled:
                # Its end has been told: lines that it opened now would never end.
                reply(transaction, 481, now)
            case "INVITE" | "UPDATE":
                offer = self._read(transaction, now)
                if offer is not None:
                    self._renew(transaction, call, offer, now)
            case "OPTIONS":
                reply(transaction, 200, now, _ABOUT_US)
            case _:
                reply(transaction, 405, now, (("allow", ALLOW),))

    def _acknowledge(self, request: SipRequest, call: Call, now: float) -> None:
        pending = call.pending
        if pending is None:
            return
        number, _ = parse_cseq(request.headers.get("cseq") or "")
        if number != parse_cseq(pending.request.headers.get("cseq") or "")[0]:
            return
        call.pending = None
        call.established = True
        self._answers.transactions.acknowledged(pending)
        if call.cancelled:
            self._ask(call, "BYE", now)
            del self._calls[call.dialog.local_tag]

    def _renew(
        self, transaction: ServerTransaction, call: Call, offer: RecordingOffer, now: float
    ) -> bool:
        """Take the offer, metadata or sign of life of an INVITE or UPDATE, and say 200; False
        where it was refused, and all is as it was."""
        request, recording = transaction.request, call.recording

        def take() -> tuple[SessionTimer | None, bytes]:
            default_s = self._rules.session_expires_s
            timer = agree_on_timer(request, default_s, allows_update=call.allows_update)
            if offer.sdp is not None:
                return timer, recording.offer(offer.sdp, offer.metadata, now)
            if offer.metadata is not None:
                recording.tell(offer.metadata)
            # A re-INVITE without an offer asks for ours: what was agreed on stands.
            return timer, recording.answer if transaction.is_invite else b""

        taken = self._refusals.tried(transaction, now, take)
        if taken is None:
            return False
        timer, answer = taken
        if transaction.is_invite:
            call.pending = transaction
        call.refreshed(timer, now)
        extra = [self._contact(call.dialog.flow), ("allow", ALLOW), ("supported", SUPPORTED)]
        extra += timer.headers() if timer is not None else []
        extra += [("content-type", "application/sdp")] if answer else []
        tag = call.dialog.local_tag
        self._answers.reply(transaction, 200, now, extra, tag=tag, body=answer)
        return True

    # What is common to both.

    def _read(self, transaction: ServerTransaction, now: float) -> RecordingOffer | None:
        offer = self._refusals.tried(transaction, now, lambda: read_offer(transaction.request))
        if offer is not None and offer.metadata_problem is not None:
            self._refusals.count(f"metadata_{offer.metadata_problem}")
        return offer

    def _contact(self, flow: Flow) -> tuple[str, str]:
        transport = "" if flow.transport == "UDP" else f";transport={flow.transport.lower()}"
        return ("contact", f"<sip:{self._hands.sent_by(flow)}{transport}>;+sip.srs")

    def _hang_up(self, call: Call, reason: EndReason, why: str, now: float) -> None:
        self._ask(call, "BYE", now)
        self._end(call, reason, why, now)

    def _end(self, call: Call, reason: EndReason, why: str, now: float) -> None:
        del self._calls[call.dialog.local_tag]
        logger.info("source %s: call %s ends: %s", self._source, call.recording.call, why)
        call.recording.end(reason, now)

    # Requests of our own.

    def _ask(self, call: Call, method: str, now: float, extra: HeaderPairs = ()) -> None:
        dialog = call.dialog
        branch = f"z9hG4bK{secrets.token_hex(12)}"
        request = dialog.request(method, branch, self._hands.sent_by(dialog.flow), extra)
        send = Send(dialog.flow, serialise(request))
        self._hands.send(self._requests.begin(branch, method, dialog.local_tag, send, now))

    def _answered(self, response: SipResponse, now: float) -> None:
        """To a BYE or UPDATE of ours."""
        branch = top_via(response.headers).param("branch") or ""
        _, method = parse_cseq(response.headers.get("cseq") or "")
        ended = self._requests.answered(branch, method, response.status)
        call = self._calls.get(ended.owner) if ended is not None else None
        if call is None:
            return
        if response.status < 300:
            agreed = read_session_expires(response.headers)
            interval_s = agreed[0] if agreed is not None else call.session_s
            call.refreshed(SessionTimer(max(interval_s, MIN_SESSION_S), by_us=True), now)
        elif response.status in (408, 481):
            self._end(call, EndReason.INACTIVITY, "the peer knows nothing of it any more", now)
        else:
            # Not now (491: both were asking), or not so often (422): the call is up all the same.
            call.refresh_at = now + REFRESH_AGAIN_S
            call.least_s = max(call.least_s, read_min_se(response.headers))
            call.session_s = max(call.session_s, call.least_s)
