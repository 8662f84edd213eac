"""Bodies of several parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.errors import ProtocolError
from streamguard.protocols.multipart import MAX_BODY_BYTES, MAX_PARTS, media_type, parse_body

MIXED = "multipart/mixed; boundary=b"


def body(*parts: str) -> bytes:
    return "".join(f"--b\r\n{part}\r\n" for part in parts).encode() + b"--b--\r\n"


def test_parts_come_in_their_order_with_their_types() -> None:
    data = body(
        "Content-Type: application/sdp\r\n\r\nv=0\r\n",
        "Content-Type: Application/RS-Metadata+XML; x=y\r\nContent-Disposition: recording-session"
        "\r\n\r\n<a/>",
    )
    first, second = parse_body(MIXED, data)
    assert (first.content_type, first.body) == ("application/sdp", b"v=0\r\n")
    assert (second.content_type, second.body) == ("application/rs-metadata+xml", b"<a/>")
    assert second.headers.get("content-disposition") == "recording-session"


def test_one_body_is_one_part_and_none_is_none() -> None:
    (part,) = parse_body("application/sdp;charset=x", b"v=0")
    assert (part.content_type, part.body) == ("application/sdp", b"v=0")
    assert parse_body(MIXED, b"") == ()
    assert parse_body(None, b"x")[0].content_type == ""


def test_what_surrounds_the_parts_is_left_out() -> None:
    data = b"preamble\r\n" + body("\r\none").replace(b"--b--", b"--b--\r\nepilogue --b\r\n")
    assert [part.body for part in parse_body(MIXED, data)] == [b"one"]


def test_a_boundary_may_be_quoted_and_hold_almost_anything() -> None:
    data = body("\r\none").replace(b"--b", b"--a=(b)+?.*")
    parts = parse_body('multipart/mixed;boundary="a=(b)+?.*"', data)
    assert [part.body for part in parts] == [b"one"]


def test_a_boundary_inside_a_line_separates_nothing() -> None:
    parts = parse_body(MIXED, body("\r\none --b two\r\n--bc\r\nthree"))
    assert [part.body for part in parts] == [b"one --b two\r\n--bc\r\nthree"]


def test_bare_newlines_and_a_missing_end_are_forgiven() -> None:
    data = b"--b\nContent-Type: a/b\n\none\n--b\n\ntwo"
    assert [part.body for part in parse_body(MIXED, data)] == [b"one", b"two"]


def test_a_broken_type_has_no_white_space_left() -> None:
    assert media_type("application/ +xml ; a=b") == "application/+xml"


@pytest.mark.parametrize(
    ("content_type", "data", "why"),
    [
        ("multipart/mixed", b"x", "boundary"),
        ("multipart/mixed;boundary=" + "x" * 71, b"x", "boundary"),
        (MIXED, b"nothing here", "no_parts"),
        (MIXED, b"--b\r\nno end of headers", "no_end"),
        (MIXED, b"--b\r\n" * 3 + b"--b--", "no_end"),
        (MIXED, body(*["\r\nx"] * (MAX_PARTS + 1)), "too_many_parts"),
        (MIXED, b"x" * (MAX_BODY_BYTES + 1), "oversized"),
        (MIXED, body("bad header\r\n\r\nx"), "header"),
    ],
)
def test_what_breaks_the_rules_is_refused_with_its_reason(
    content_type: str, data: bytes, why: str
) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_body(content_type, data)
    assert caught.value.reason == why


@given(st.binary(max_size=300), st.lists(st.binary(max_size=40), max_size=12))
def test_any_bytes_give_parts_or_a_protocol_error(noise: bytes, parts: list[bytes]) -> None:
    for data in (noise, b"--b\r\n" + b"\r\n--b\r\n".join(parts) + b"\r\n--b--" + noise):
        try:
            found = parse_body(MIXED, data)
        except ProtocolError:
            continue
        assert len(found) <= MAX_PARTS
        assert sum(len(part.body) for part in found) <= len(data)


@given(st.text(max_size=60), st.binary(max_size=60))
def test_any_content_type_is_read_or_refused(content_type: str, data: bytes) -> None:
    try:
        parse_body(content_type, data)
    except ProtocolError:
        pass
