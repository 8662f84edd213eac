"""Who may open a media connection, and who may not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import string
from typing import Any

import pytest

from streamguard.errors import ProtocolError
from streamguard.protocols.handshake import (
    MAX_AGE_S,
    AudioHookCheck,
    Check,
    Handshake,
    JwtCheck,
    Seen,
    TokenCheck,
    TwilioCheck,
)
from tests.protocols.test_http_signature import (
    GENESYS,
    GENESYS_CREATED,
    GENESYS_KEY,
    GENESYS_TARGET,
)

NOW = 1_700_000_000.0
TOKEN = "a token of our own"


def reason(check: Check, headers: dict[str, str], target: str = "/", now: float = NOW) -> str:
    """Why a request is refused; empty where it is not."""
    try:
        check(Handshake(headers, target), now)
    except ProtocolError as err:
        return err.reason
    return ""


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "authorization", [f"Bearer {TOKEN}", f"bearer  {TOKEN} ", basic(f"asterisk:{TOKEN}"), TOKEN]
)
def test_a_token_is_known_as_bearer_password_or_bare(authorization: str) -> None:
    assert reason(TokenCheck(TOKEN), {"authorization": authorization}) == ""


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer x", f"Bearer {TOKEN}x", f"Digest {TOKEN}", "Basic !", basic(TOKEN)],
)
def test_anything_else_is_not(authorization: str) -> None:
    assert reason(TokenCheck(TOKEN), {"authorization": authorization}) == "unauthorized"
    assert reason(TokenCheck(TOKEN), {}) == "unauthorized"


def test_bytes_that_are_no_text_are_refused_without_an_error() -> None:
    assert reason(TokenCheck(TOKEN), {"authorization": "Bearer \udcff"}) == "unauthorized"


def test_a_check_does_not_show_its_secret() -> None:
    for check in (
        TokenCheck(TOKEN),
        TwilioCheck(TOKEN, "wss://x.example/"),
        JwtCheck(TOKEN),
        AudioHookCheck(TOKEN, TOKEN.encode()),
    ):
        assert TOKEN not in repr(check)


def twilio_signature(url: str, auth_token: str = "12345") -> str:
    digest = hmac.new(auth_token.encode(), url.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def test_twilio_signs_the_url_of_the_stream_with_or_without_its_last_slash() -> None:
    check = TwilioCheck("12345", "wss://guard.example.com/twilio")
    # echo -n wss://guard.example.com/twilio | openssl dgst -sha1 -hmac 12345 -binary | base64
    signature = "s+6NWh+nefLhaPdg8jkzOc9IG/8="
    assert twilio_signature("wss://guard.example.com/twilio") == signature
    assert reason(check, {"x-twilio-signature": signature}) == ""
    slash = twilio_signature("wss://guard.example.com/twilio/")
    assert reason(check, {"x-twilio-signature": slash}) == ""


@pytest.mark.parametrize(
    "signature",
    [
        "",
        twilio_signature("wss://guard.example.com/other"),
        twilio_signature("https://guard.example.com/twilio"),
        twilio_signature("wss://guard.example.com/twilio", "54321"),
    ],
)
def test_another_url_or_token_is_not_twilio(signature: str) -> None:
    check = TwilioCheck("12345", "wss://guard.example.com/twilio")
    assert reason(check, {"x-twilio-signature": signature}) == "unauthorized"


def part(fields: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


def jwt(claims: dict[str, Any], secret: str = TOKEN, alg: str = "HS256") -> dict[str, str]:
    signed = f"{part({'alg': alg, 'typ': 'JWT'})}.{part(claims)}"
    digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    signature = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return {"authorization": f"Bearer {signed}.{signature}"}


def test_a_signed_token_opens_once() -> None:
    check = JwtCheck(TOKEN)
    headers = jwt({"iat": int(NOW), "jti": "one", "iss": "Vonage"})
    assert reason(check, headers) == ""
    assert reason(check, headers) == "replayed"
    assert reason(check, jwt({"iat": int(NOW), "jti": "two"})) == ""


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"iat": int(NOW - MAX_AGE_S - 40)}, "expired"),
        ({"iat": int(NOW + 40)}, "expired"),
        ({"iat": int(NOW), "nbf": int(NOW + 40)}, "expired"),
        ({"exp": int(NOW - 40)}, "expired"),
        ({"exp": int(NOW + 40)}, ""),
        ({}, "undated"),
        ({"iat": "soon"}, "undated"),
        ({"iat": True}, "undated"),
    ],
)
def test_a_signed_token_has_its_time(claims: dict[str, Any], expected: str) -> None:
    assert reason(JwtCheck(TOKEN), jwt(claims)) == expected


def test_a_signed_token_without_an_id_opens_once_however_its_signature_is_written() -> None:
    """32 bytes leave two bits of the last character unused: four spellings, and padding."""
    check = JwtCheck(TOKEN)
    headers = jwt({"iat": int(NOW)})
    assert reason(check, headers) == ""
    last = headers["authorization"][-1]
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    twin = alphabet[alphabet.index(last) ^ 1]
    assert reason(check, {"authorization": headers["authorization"][:-1] + twin}) == "replayed"
    assert reason(check, {"authorization": headers["authorization"] + "="}) == "replayed"


def test_a_token_of_another_secret_or_algorithm_is_refused() -> None:
    claims = {"iat": int(NOW)}
    assert reason(JwtCheck(TOKEN), jwt(claims, "another secret")) == "unauthorized"
    assert reason(JwtCheck(TOKEN), jwt(claims, alg="none")) == "algorithm"
    unsigned = f"Bearer {part({'alg': 'none'})}.{part(claims)}."
    assert reason(JwtCheck(TOKEN), {"authorization": unsigned}) == "unauthorized"
    for junk in ("", "Bearer", "Bearer a.b", "Bearer a.b.c", "Bearer é.é.é", "Bearer ..", "x.y.z"):
        assert reason(JwtCheck(TOKEN), {"authorization": junk}) == "unauthorized"


API_KEY = GENESYS["x-api-key"]


def test_a_signed_audiohook_request_opens_once() -> None:
    check = AudioHookCheck(API_KEY, GENESYS_KEY)
    assert reason(check, GENESYS, GENESYS_TARGET, GENESYS_CREATED) == ""
    assert reason(check, GENESYS, GENESYS_TARGET, GENESYS_CREATED) == "replayed"


def test_an_audiohook_request_needs_its_signature_key_and_time() -> None:
    def fresh() -> AudioHookCheck:
        return AudioHookCheck(API_KEY, GENESYS_KEY)

    unsigned = {key: value for key, value in GENESYS.items() if not key.startswith("signature")}
    assert reason(fresh(), unsigned, GENESYS_TARGET, GENESYS_CREATED) == "unreadable"
    assert reason(fresh(), GENESYS, "/elsewhere", GENESYS_CREATED) == "signature"
    assert reason(fresh(), GENESYS, GENESYS_TARGET, GENESYS_CREATED + 60) == "age"
    other = AudioHookCheck("another key", GENESYS_KEY)
    assert reason(other, GENESYS, GENESYS_TARGET, GENESYS_CREATED) == "unauthorized"


def signed(nonce: str) -> dict[str, str]:
    """The example of Genesys with another nonce."""
    terms = GENESYS["signature-input"].replace("VGhpc0lzQVVuaXF1ZU5vbmNl", nonce)
    names = ("audiohook-organization-id", "audiohook-session-id", "audiohook-correlation-id")
    lines = [f'"@request-target": {GENESYS_TARGET}', f'"@authority": {GENESYS["host"]}']
    lines += [f'"{name}": {GENESYS[name]}' for name in (*names, "x-api-key")]
    lines.append(f'"@signature-params": {terms.removeprefix("sig1=")}')
    digest = hmac.new(GENESYS_KEY, "\n".join(lines).encode(), hashlib.sha256).digest()
    signature = f"sig1=:{base64.b64encode(digest).decode()}:"
    return {**GENESYS, "signature-input": terms, "signature": signature}


@pytest.mark.parametrize(("nonce", "expected"), [("x" * 22, ""), ("x" * 21, "nonce")])
def test_a_nonce_has_to_be_long_enough_to_be_one(nonce: str, expected: str) -> None:
    check = AudioHookCheck(API_KEY, GENESYS_KEY)
    assert reason(check, signed(nonce), GENESYS_TARGET, GENESYS_CREATED) == expected


def test_without_a_client_secret_the_key_is_enough() -> None:
    check = AudioHookCheck(API_KEY, None)
    assert reason(check, {"x-api-key": API_KEY}) == ""
    assert reason(check, {"x-api-key": API_KEY + "x"}) == "unauthorized"
    assert reason(check, {}) == "unauthorized"


def test_what_was_seen_is_forgotten_when_it_has_expired_and_is_bounded() -> None:
    seen = Seen(limit=2)
    seen.once("a", until=10.0, now=0.0)
    seen.once("b", until=20.0, now=0.0)
    with pytest.raises(ProtocolError, match="too_many"):
        seen.once("c", until=20.0, now=5.0)
    seen.once("c", until=30.0, now=11.0)
    with pytest.raises(ProtocolError, match="replayed"):
        seen.once("b", until=30.0, now=12.0)
