"""How a session recording server says no, and counts it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from streamguard.errors import ProtocolError
from streamguard.protocols.sip_answers import Answers, HeaderPairs
from streamguard.protocols.sip_transaction import ServerTransaction
from streamguard.protocols.siprec_call import MIN_SESSION_S, IntervalTooSmallError
from streamguard.protocols.siprec_session import NoPortError
from streamguard.telemetry.log import RepeatLimiter

logger = logging.getLogger(__name__)

ACCEPT = "application/sdp, application/rs-metadata, application/rs-metadata+xml, multipart/mixed"

T = TypeVar("T")


class Refusals:
    """Of one source; ``drops`` is shared and counts by reason."""

    def __init__(
        self, source: str, answers: Answers, drops: Counter[str], retry_after_s: int
    ) -> None:
        self._source = source
        self._answers = answers
        self._drops = drops
        self._repeats = RepeatLimiter(logger)
        self.retry_after: HeaderPairs = (("retry-after", str(retry_after_s)),)
        """With every 503."""

    def count(self, reason: str) -> None:
        """Count it, and say so, though not for every one."""
        self._drops[reason] += 1
        self._repeats.log(
            logging.WARNING, reason, "source %s: SIP refused: %s", self._source, reason
        )

    def busy(self, transaction: ServerTransaction, why: str, now: float) -> None:
        """At once, for the peer to ask the next recorder: never take a call and drop its audio."""
        self.count(why)
        self._answers.reply(transaction, 503, now, self.retry_after)

    def tried(
        self, transaction: ServerTransaction, now: float, action: Callable[[], T]
    ) -> T | None:
        """What the action gives; None where it can't, which the peer has then been told."""
        reply = self._answers.reply
        try:
            return action()
        except IntervalTooSmallError:
            self.count("session_interval")
            reply(transaction, 422, now, (("min-se", str(MIN_SESSION_S)),))
        except NoPortError:
            self.busy(transaction, "no_port", now)
        except ProtocolError as err:
            self.count(f"{err.protocol}_{err.reason}")
            match err.reason:
                case "content_encoding":
                    accepted = (("accept", ACCEPT), ("accept-encoding", "identity"))
                    reply(transaction, 415, now, accepted)
                case "not_acceptable":
                    reply(transaction, 488, now)
                case _:
                    reply(transaction, 400, now, reason=f"Bad {err.protocol} ({err.reason})")
        return None
