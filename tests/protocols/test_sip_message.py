"""SIP messages: RFC 3261's rules, the torture tests of RFC 4475 typed anew, and any bytes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.errors import ProtocolError
from streamguard.protocols.sip_message import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_MESSAGE_BYTES,
    Headers,
    KeepAlive,
    SipMessage,
    SipRequest,
    SipResponse,
    SipStream,
    parse_message,
    serialise,
    top_via,
)
from streamguard.protocols.sip_values import (
    parse_cseq,
    parse_name_addr,
    parse_params,
    parse_via,
    quote,
    split_list,
    unquote,
)
from tests.protocols.siprec_rig import crlf

OPTIONS = "OPTIONS sip:a@example.org SIP/2.0\nVia: SIP/2.0/UDP host;branch=z9hG4bK1\n"
FULL = OPTIONS + "From: <sip:b@c>;tag=1\nTo: <sip:a@example.org>\nCall-ID: x\nCSeq: 1 OPTIONS\n"


def parsed(text: str) -> SipRequest:
    message = parse_message(crlf(text))
    assert isinstance(message, SipRequest)
    return message


def reason(data: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        parse_message(data)
    assert caught.value.protocol == "sip"
    return caught.value.reason


def test_a_request_is_its_method_uri_headers_and_body() -> None:
    message = parsed(FULL + "Content-Length: 4\n\nbody")
    assert (message.method, message.uri, message.body) == ("OPTIONS", "sip:a@example.org", b"body")
    assert message.headers.get("call-id") == "x"
    assert message.headers.get("subject") is None


def test_a_response_is_its_status_and_reason() -> None:
    message = parse_message(crlf("SIP/2.0 200 Very Good Indeed\nCall-ID: x\n\n"))
    assert isinstance(message, SipResponse)
    assert (message.status, message.reason) == (200, "Very Good Indeed")


def test_compact_names_are_the_long_ones_and_case_does_not_count() -> None:
    message = parsed(
        OPTIONS + "f: <sip:b@c>\nT:x\ni : 7\nL: 0\ncOnTeNt-TyPe: a/b\nK: timer, 100REL\n\n"
    )
    get = message.headers.get
    assert (get("from"), get("to"), get("call-id"), get("content-type")) == (
        "<sip:b@c>",
        "x",
        "7",
        "a/b",
    )
    assert message.headers.tokens("supported") == {"timer", "100rel"}


def test_a_folded_line_goes_on_with_the_one_before() -> None:
    assert parsed(OPTIONS + "Subject: one\n  two\n\tthree\n\n").headers.get("subject") == (
        "one two three"
    )


def test_lines_may_end_in_a_bare_newline() -> None:
    message = parse_message((FULL + "\n").encode())
    assert message.headers.get("cseq") == "1 OPTIONS"


def test_bytes_behind_the_content_length_of_a_datagram_are_dropped() -> None:
    assert parsed(FULL + "Content-Length: 2\n\nbody").body == b"bo"


def test_empty_lines_before_a_message_are_skipped() -> None:
    assert parsed("\n\n" + FULL + "\n").method == "OPTIONS"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no_end"),
        ("OPTIONS sip:a SIP/2.0\nVia: x\n", "no_end"),
        ("OPTIONS sip:a SIP/3.0\n\n", "version"),
        ("OPTIONS SIP/2.0\n\n", "start_line"),
        ("OPT/IONS sip:a SIP/2.0\n\n", "start_line"),
        ("SIP/2.0 99 Low\n\n", "start_line"),
        ("SIP/2.0 4294967301 better not break the receiver\n\n", "start_line"),
        ("OPTIONS sip:a SIP/2.0\nNo colon here\n\n", "header"),
        ("OPTIONS sip:a SIP/2.0\nBad name: x\n\n", "header"),
        ("OPTIONS sip:a SIP/2.0\n folded: x\n\n", "folding"),
        (OPTIONS + "Content-Length: 5\n\nbody", "content_length"),
        (OPTIONS + "Content-Length: -999\n\n", "content_length"),
        (OPTIONS + "Content-Length: 1e3\n\n", "content_length"),
        (OPTIONS + "Content-Length: 4\nl: 5\n\nbody", "content_length"),
        (OPTIONS + "Content-Length: 99999999\n\n", "oversized"),
        (OPTIONS + "X: y\n" * (MAX_HEADERS + 1) + "\n", "too_many_headers"),
        (OPTIONS + "X: " + "y" * MAX_HEAD_BYTES + "\n\n", "oversized"),
        (OPTIONS + "X: a\0b\n\n", "control_character"),
        (OPTIONS + "X: a\rInjected: b\n\n", "control_character"),
    ],
)
def test_what_breaks_the_rules_is_refused_with_its_reason(text: str, why: str) -> None:
    assert reason(crlf(text)) == why


def test_more_than_a_datagram_holds_is_refused() -> None:
    assert reason(crlf(FULL + "\n") + b"x" * MAX_MESSAGE_BYTES) == "oversized"


# RFC 4475, typed anew. Section 3.1.1: odd but right.


def test_a_short_tortuous_invite_is_read() -> None:
    text = (
        "INVITE sip:vivekg@chair.example.com;unknownparam SIP/2.0\n"
        "TO :\n sip:vivekg@chair.example.com ;   tag    = 1918181833n\n"
        'from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>\n  ;\n  tag = 98asjd8\n'
        "MaX-fOrWaRdS: 0068\n"
        "Call-ID: wsinv.ndaksdj@192.0.2.1\n"
        "Content-Length   : 4\n"
        "cseq: 0009\n  INVITE\n"
        "Via  : SIP  /   2.0\n /UDP\n    192.0.2.2;branch=390skdjuw\n"
        "s :\n"
        "NewFangledHeader:   newfangled value\n continued newfangled value\n"
        "UnknownHeaderWithUnusualValue: ;;,,;;,;\n"
        "Content-Type: application/sdp\n"
        "v:  SIP  / 2.0  / TCP     spindle.example.com   ;\n  branch  =   z9hG4bK9ikj8  ,\n"
        " SIP  /    2.0   / UDP  192.168.255.111   ; branch=\n z9hG4bK30239\n"
        'm:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =\n'
        "      newvalue ;\n  secondparam ; q = 0.33\n"
        "\nv=0\n"
    )
    message = parse_message(text.replace("\n", "\r\n").encode())
    headers = message.headers
    assert parse_name_addr(headers.get("to") or "").param("tag") == "1918181833n"
    caller = parse_name_addr(headers.get("from") or "")
    assert (caller.display, caller.param("tag")) == ('J Rosenberg \\"', "98asjd8")
    assert parse_cseq(headers.get("cseq") or "") == (9, "INVITE")
    vias = [parse_via(item) for item in headers.items("via")]
    assert [(via.transport, via.host, via.param("branch")) for via in vias] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    contact = parse_name_addr(headers.get("contact") or "")
    assert contact.uri == "sip:jdrosen@example.com"
    assert contact.params == (("newparam", "newvalue"), ("secondparam", ""), ("q", "0.33"))


def test_a_method_and_tokens_of_every_legal_character_are_read() -> None:
    method = "!interesting-Method0123456789_*+`.%indeed'~"
    uri = (
        "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
        ":&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com"
    )
    message = parsed(f"{method} {uri} SIP/2.0\nCSeq: 139122385 {method}\n\n")
    assert (message.method, message.uri) == (method, uri)
    assert parse_cseq(message.headers.get("cseq") or "") == (139122385, method)


def test_text_that_is_not_utf_8_comes_through_unchanged() -> None:
    data = crlf(OPTIONS + "Subject: ") + b"\xc3\xa4 and \x96\r\n\r\n"
    message = parse_message(data)
    assert b"\xc3\xa4 and \x96\r\n" in serialise(message)


def test_a_datagram_with_two_messages_is_its_first() -> None:
    one = crlf(FULL + "Content-Length: 0\n\n")
    assert parse_message(one + crlf("INVITE sip:b SIP/2.0\n\n")) == parse_message(one)


def test_a_semicolon_in_the_user_part_belongs_to_the_user() -> None:
    uri = "sip:user;par=u%40example.net@example.com"
    assert parsed(f"OPTIONS {uri} SIP/2.0\n\n").uri == uri
    assert parse_name_addr(f"<{uri}>;tag=3").uri == uri


def test_an_unknown_transport_is_one() -> None:
    vias = ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]
    text = "".join(
        f"Via: SIP/2.0/{one} t{n}.example.com;branch=z9hG4bK{n}\n" for n, one in enumerate(vias)
    )
    message = parsed(f"OPTIONS sip:a SIP/2.0\n{text}\n")
    assert [parse_via(v).transport for v in message.headers.all("via")] == vias


@pytest.mark.parametrize(
    "text", ["SIP/2.0 100 \nVia: x\n\n", "SIP/2.0 200 = 2**3 * 5**2 \u043d\u043e\n\n"]
)
def test_a_reason_may_be_empty_or_anything(text: str) -> None:
    assert isinstance(parse_message(crlf(text)), SipResponse)


# Section 3.1.2: wrong.


@pytest.mark.parametrize(
    "start",
    [
        "INVITE <sip:user@example.com> SIP/2.0",
        "INVITE sip:user@example.com; lr SIP/2.0",
        "INVITE  sip:user@example.com  SIP/2.0",
        "OPTIONS sip:remote-target@example.com SIP/2.0  ",
        "INVITE sip:sip%3Auser%40example.com@company.com;other-param=summit SIP/7.0",
    ],
)
def test_a_start_line_with_what_does_not_belong_there_is_refused(start: str) -> None:
    assert reason(crlf(f"{start}\nCall-ID: x\n\n")) in ("start_line", "version")


@pytest.mark.parametrize(
    "value",
    [
        '"Mr. J. User <sip:j.user@example.com>',
        '"Watson, Thomas" < sip:t.watson@example.org >',
        "<sip:a@b",
        "<>",
        "",
        "sip:a@b?Route=x",
        '"A" sip:a@b',
        "<sip:a@b> tag=1",
    ],
)
def test_an_address_out_of_balance_is_refused(value: str) -> None:
    with pytest.raises(ProtocolError):
        parse_name_addr(value)


@pytest.mark.parametrize(
    "value", ["36893488147419103232 REGISTER", "-1 OPTIONS", "1", "OPTIONS", "", "2147483648 BYE"]
)
def test_a_sequence_number_out_of_range_is_refused(value: str) -> None:
    with pytest.raises(ProtocolError):
        parse_cseq(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "SIP/2.0",
        "SIP/2.0/UDP",
        "SIP/1.0/UDP host",
        "SIP/2.0/UDP host:0",
        "SIP/2.0/UDP host:99999",
    ],
)
def test_a_via_that_names_no_hop_is_refused(value: str) -> None:
    with pytest.raises(ProtocolError):
        parse_via(value)
    with pytest.raises(ProtocolError):
        top_via(Headers((("via", value),)))


def test_a_via_may_name_an_ipv6_host() -> None:
    via = parse_via("SIP/2.0/UDP [2001:db8::9:1]:5070;received=[2001:db8::9:255];branch=z9hG4bKas3")
    assert (via.host, via.port, via.param("branch")) == ("2001:db8::9:1", 5070, "z9hG4bKas3")


def test_commas_inside_quotes_and_brackets_separate_nothing() -> None:
    assert split_list('"a, b" <sip:x,y@z>, <sip:c>;p="q,r" ,, d') == [
        '"a, b" <sip:x,y@z>',
        '<sip:c>;p="q,r"',
        "d",
    ]


def test_a_parameter_that_comes_twice_counts_once() -> None:
    assert parse_params(';a=1;A=2; flag ;b="x;y"') == (("a", "1"), ("flag", ""), ("b", "x;y"))


# Streams.


def feed(chunks: Iterator[bytes]) -> list[SipMessage | KeepAlive]:
    stream = SipStream()
    return [item for chunk in chunks for item in stream.feed(chunk)]


TWO = crlf(FULL + "Content-Length: 4\n\nbody") + crlf(FULL + "l: 0\n\n")


@given(st.lists(st.integers(1, 40), min_size=1), st.booleans())
def test_any_chunking_gives_the_same_messages(sizes: list[int], ping: bool) -> None:
    data = (b"\r\n\r\n" if ping else b"") + TWO
    chunks: list[bytes] = []
    position = 0
    while position < len(data):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(data[position : position + size])
        position += size
    whole = feed(iter([data]))
    assert feed(iter(chunks)) == whole
    assert len(whole) == 2 + ping


def test_a_message_after_a_mistake_is_not_read_and_those_before_it_are() -> None:
    stream = SipStream()
    assert len(stream.feed(TWO + crlf("NONSENSE\n\n"))) == 2
    with pytest.raises(ProtocolError):
        stream.feed(TWO)


def test_a_stream_needs_a_content_length() -> None:
    with pytest.raises(ProtocolError, match="Content-Length"):
        SipStream().feed(crlf(FULL + "\n"))


def test_a_pong_is_no_message_and_nothing_is_pending_behind_it() -> None:
    stream = SipStream()
    assert stream.feed(b"\r\n") == []
    assert not stream.pending
    assert len(stream.feed(TWO[:-3])) == 1
    assert stream.pending


def test_a_head_without_end_is_not_kept_for_ever() -> None:
    stream = SipStream()
    line = b"X: y\r\n"
    for _ in range(MAX_HEAD_BYTES // len(line)):
        assert stream.feed(line) == []
    with pytest.raises(ProtocolError):
        stream.feed(line)


# Any bytes.


@given(st.binary(max_size=400))
def test_any_bytes_give_a_message_or_a_protocol_error(data: bytes) -> None:
    for prefix in (b"", b"INVITE sip:a SIP/2.0\r\n", b"SIP/2.0 200 OK\r\nVia: "):
        try:
            parse_message(prefix + data)
        except ProtocolError:
            pass
        try:
            SipStream().feed(prefix + data)
        except ProtocolError:
            pass


_VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=60)


@given(_VALUES)
def test_any_header_value_is_read_or_refused(value: str) -> None:
    for read in (parse_via, parse_name_addr, parse_cseq, split_list, parse_params):
        try:
            read(value)
        except ProtocolError:
            pass


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-z][a-z-]{1,12}[a-z]", fullmatch=True).filter(
                lambda name: name != "content-length"
            ),
            _VALUES.map(lambda value: " ".join(value.split())),
        ),
        max_size=6,
    ),
    st.binary(max_size=50),
)
def test_what_is_written_is_what_is_read(fields: list[tuple[str, str]], body: bytes) -> None:
    message = SipRequest("INFO", "sip:a@b", Headers(tuple(fields)), body)
    again = parse_message(serialise(message))
    assert isinstance(again, SipRequest)
    assert again.body == body
    kept = tuple((k, v) for k, v in again.headers if k != "content-length")
    assert kept == tuple(fields)


@given(st.text(max_size=30))
def test_what_is_quoted_is_what_is_unquoted(text: str) -> None:
    assert unquote(quote(text)) == text
