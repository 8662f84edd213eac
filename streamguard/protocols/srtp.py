"""SRTP as keyed by SDP (RFC 3711, RFC 4568): protected datagrams in, plain ones out.

libsrtp does the work (the extra ``srtp``, imported when the first receiver is made): it keeps the
rollover counter across the wrap of sequence numbers, and refuses what was not signed by the key or
comes twice. A port that only mirrors a call has no key and cannot be decrypted.
"""

from __future__ import annotations

import base64
import importlib.util

from streamguard.errors import MissingExtraError, ProtocolError
from streamguard.protocols.rtcp import RTCP_TYPES

EXTRA = "srtp"
SUITES = ("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32")
KEY_BYTES = 30
"""16 of master key, 14 of salt (RFC 4568 section 6.1)."""


def check_extra() -> None:
    """Raises MissingExtraError where libsrtp is not there: refuse the call, not its packets."""
    if importlib.util.find_spec("pylibsrtp") is None:
        raise MissingExtraError("SRTP", EXTRA)


def parse_inline(key_params: str) -> bytes:
    """Key and salt of ``inline:<base64>|lifetime``, for one of :data:`SUITES`.

    Raises ProtocolError, which never repeats what was written: it is a secret.
    """
    method, _, value = key_params.partition(":")
    encoded, *rest = value.split("|")
    if method != "inline" or len(rest) > 1 or any(":" in part for part in rest):
        # A master key identifier would lengthen every packet; nobody who records sends one.
        raise ProtocolError("srtp", "key", "inline:<base64> without MKI is needed")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError as err:  # binascii.Error, or what is not even ASCII
        raise ProtocolError("srtp", "key", "the key is not base64") from err
    if len(key) != KEY_BYTES:
        raise ProtocolError("srtp", "key", f"{KEY_BYTES} bytes of key and salt are needed")
    return key


class SrtpReceiver:
    """The receiving end of one key: one for each leg and direction.

    Only what is signed makes it remember a stream, so strangers cannot make it grow.
    """

    def __init__(self, suite: str, key: bytes) -> None:
        """Raises ProtocolError for another suite, MissingExtraError without libsrtp."""
        if suite not in SUITES:
            raise ProtocolError("srtp", "suite", f"one of {', '.join(SUITES)} is needed")
        check_extra()
        from pylibsrtp import Error, Policy, Session

        profile = (
            Policy.SRTP_PROFILE_AES128_CM_SHA1_80
            if suite == SUITES[0]
            else Policy.SRTP_PROFILE_AES128_CM_SHA1_32
        )
        # ValueError is for packets longer than libsrtp's buffer, an Ethernet frame.
        self._refusals = (Error, ValueError)
        self._session = Session(Policy(key, Policy.SSRC_ANY_INBOUND, 0, profile))

    def open(self, datagram: bytes) -> bytes | None:
        """The RTP or RTCP (RFC 5761) inside; None where the signature is wrong or it came twice."""
        is_rtcp = len(datagram) >= 2 and datagram[1] in RTCP_TYPES
        session = self._session
        try:
            return session.unprotect_rtcp(datagram) if is_rtcp else session.unprotect(datagram)
        except self._refusals:
            return None
