"""HTTP message signatures, on the examples of the standard and of Genesys."""

from __future__ import annotations

import base64

import pytest

from streamguard.errors import ProtocolError
from streamguard.protocols.http_signature import parse_signature, verify

# The example of draft-ietf-httpbis-message-signatures, appendix B.2.5 (B.1.5 has the key).
STANDARD_KEY = base64.b64decode(
    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
)
STANDARD = {
    "date": "Tue, 20 Apr 2021 02:07:55 GMT",
    "host": "example.com",
    "content-type": "application/json",
    "signature-input": 'sig-b25=("date" "@authority" "content-type");created=1618884473'
    ';keyid="test-shared-secret"',
    "signature": "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:",
}

# The example of the AudioHook documentation.
GENESYS_KEY = base64.b64decode("TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU=")
GENESYS_TARGET = "/api/v1/voicebiometrics/ws"
GENESYS_CREATED = 1641013200
GENESYS = {
    "host": "audiohook.example.com",
    "audiohook-organization-id": "d7934305-0972-4844-938e-9060eef73d05",
    "audiohook-session-id": "30b0e395-84d3-4570-ac13-9a62d8f514c0",
    "audiohook-correlation-id": "e160e428-53e2-487c-977d-96989bf5c99d",
    "x-api-key": "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh",
    "signature": "sig1=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:",
    "signature-input": 'sig1=("@request-target" "@authority" "audiohook-organization-id" '
    '"audiohook-session-id" "audiohook-correlation-id" "x-api-key")'
    ';keyid="SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh";nonce="VGhpc0lzQVVuaXF1ZU5vbmNl"'
    ';alg="hmac-sha256";created=1641013200;expires=3282026430',
}


def check(headers: dict[str, str], key: bytes, target: str, now: float, *required: str) -> None:
    terms = parse_signature(headers["signature"], headers["signature-input"])
    verify(terms, key, headers, target, frozenset(required), now, 10.0)


def test_the_example_of_the_standard_is_right() -> None:
    check(STANDARD, STANDARD_KEY, "/", 1618884475, "date")


def test_the_example_of_genesys_is_right() -> None:
    check(GENESYS, GENESYS_KEY, GENESYS_TARGET, GENESYS_CREATED, "@request-target", "x-api-key")


@pytest.mark.parametrize("name", sorted({*GENESYS} - {"signature", "signature-input"}))
def test_whatever_is_signed_cannot_be_changed(name: str) -> None:
    changed = {**GENESYS, name: GENESYS[name] + "x"}
    with pytest.raises(ProtocolError, match="signature"):
        check(changed, GENESYS_KEY, GENESYS_TARGET, GENESYS_CREATED)


@pytest.mark.parametrize(
    ("target", "key", "now", "required", "reason"),
    [
        ("/another", GENESYS_KEY, GENESYS_CREATED, "x-api-key", "signature"),
        (GENESYS_TARGET, b"another", GENESYS_CREATED, "x-api-key", "signature"),
        (GENESYS_TARGET, GENESYS_KEY, GENESYS_CREATED + 11, "x-api-key", "age"),
        (GENESYS_TARGET, GENESYS_KEY, GENESYS_CREATED - 4, "x-api-key", "age"),
        (GENESYS_TARGET, GENESYS_KEY, GENESYS_CREATED, "date", "not_covered"),
    ],
)
def test_another_request_key_or_time_is_not_believed(
    target: str, key: bytes, now: float, required: str, reason: str
) -> None:
    with pytest.raises(ProtocolError) as caught:
        check(GENESYS, key, target, now, required)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("created=1641013200", "created=1641013201", "signature"),
        (";created=1641013200", "", "age"),
        ("created=1641013200", 'created="1641013200"', "age"),
        ("expires=3282026430", "expires=1", "age"),
        ('alg="hmac-sha256"', 'alg="rsa-v1_5-sha256"', "algorithm"),
        ('"x-api-key")', '"x-api-key" "x-api-key")', "components"),
        ('"x-api-key")', '"x-api-key" "absent")', "components"),
        ('"x-api-key")', '"x-api-key";sf)', "unreadable"),
        (";keyid=", ";keyid=1;keyid=", "parameters"),
        ("sig1=(", "sig2=(", "unreadable"),
        ("sig1=(", "sig1=", "unreadable"),
        ("sig1=(", "sig1=(" + " " * 3_000, "unreadable"),
        ("sig1=(", "sig1=(" + "x" * 4_096, "too_long"),
    ],
)
def test_terms_that_were_changed_or_make_no_sense_are_refused(
    old: str, new: str, reason: str
) -> None:
    terms = GENESYS["signature-input"]
    assert old in terms
    with pytest.raises(ProtocolError) as caught:
        check(
            {**GENESYS, "signature-input": terms.replace(old, new)},
            GENESYS_KEY,
            GENESYS_TARGET,
            GENESYS_CREATED,
        )
    assert caught.value.reason == reason


@pytest.mark.parametrize("signature", ["", "sig1=::", "sig1=:AAA:", "sig1=AAAA", "sig1=:AA==:, b"])
def test_a_signature_that_is_none_is_refused(signature: str) -> None:
    with pytest.raises(ProtocolError):
        check({**GENESYS, "signature": signature}, GENESYS_KEY, GENESYS_TARGET, GENESYS_CREATED)
