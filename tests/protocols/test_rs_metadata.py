"""Recording metadata: who speaks on which line, and XML that is not to be trusted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.errors import ProtocolError
from streamguard.events import LegRole
from streamguard.protocols.rs_metadata import (
    MAX_PARTICIPANTS,
    Participant,
    RecordingMetadata,
    Stream,
    merge,
    parse_metadata,
    speakers,
    voices,
    with_gtd,
)
from streamguard.protocols.xml_tree import MAX_DEPTH, MAX_ELEMENTS, parse_xml
from tests.protocols.siprec_rig import DIALECTS, METADATA, fixture

CALLER, CALLEE, MIXED, UNKNOWN = LegRole.CALLER, LegRole.CALLEE, LegRole.MIXED, LegRole.UNKNOWN


def two(**changes: object) -> RecordingMetadata:
    """Participant a sends the line labelled 1, b the one labelled 2."""
    values: dict[str, object] = {
        "participants": (
            Participant("a", "1001", sends=("x",)),
            Participant("b", "1002", sends=("y",)),
        ),
        "streams": (Stream("x", "1"), Stream("y", "2")),
    }
    return RecordingMetadata(**{**values, **changes})  # type: ignore[arg-type]  # of the fields' types


def test_the_first_participant_is_the_caller_where_nothing_else_is_said() -> None:
    assert speakers(two(), ["1", "2"]) == (CALLER, CALLEE)
    assert speakers(two(), ["2", "1"]) == (CALLEE, CALLER)


def test_the_recorded_calls_own_headers_tell_who_called() -> None:
    assert speakers(two(calling="1002", called="1001"), ["1", "2"]) == (CALLEE, CALLER)
    # The caller withheld the number, and there are only two.
    assert speakers(two(calling="anonymous", called="1001"), ["1", "2"]) == (CALLEE, CALLER)
    # Both are the same, as where a line calls its own mailbox: nothing is told.
    assert speakers(two(calling="1002", called="1002"), ["1", "2"]) == (CALLER, CALLEE)


def test_what_the_recorder_says_outright_counts_more_than_anything() -> None:
    people = (
        Participant("a", "1001", is_caller=False, sends=("x",)),
        Participant("b", "1002", is_caller=True, sends=("y",)),
    )
    assert speakers(two(participants=people, calling="1001"), ["1", "2"]) == (CALLEE, CALLER)


def test_whoever_comes_later_is_on_the_called_side() -> None:
    third = Participant("c", "1003", sends=("z",))
    told = two(
        participants=(*two().participants, third), streams=(*two().streams, Stream("z", "3"))
    )
    assert speakers(told, ["1", "2", "3"]) == (CALLER, CALLEE, CALLEE)


def test_a_label_is_a_name_and_its_number_says_nothing() -> None:
    assert speakers(None, ["1", "2"]) == (UNKNOWN, UNKNOWN)
    assert speakers(two(), ["7", "8"]) == (UNKNOWN, UNKNOWN)
    assert speakers(None, ["b_leg", "a_leg"]) == (CALLEE, CALLER)


def test_one_line_is_everybody_and_so_is_one_that_two_send() -> None:
    assert speakers(two(), ["1"]) == (MIXED,)
    both = (Participant("a", sends=("x", "y")), Participant("b", sends=("y",)))
    assert speakers(two(participants=both), ["1", "2"]) == (CALLER, MIXED)
    assert speakers(two(streams=(Stream("x", "1", mixed=True), Stream("y", "2"))), ["1", "2"]) == (
        MIXED,
        CALLEE,
    )


def test_where_nobody_is_said_to_send_the_order_tells() -> None:
    silent = (Participant("a"), Participant("b"))
    assert speakers(two(participants=silent), ["1", "2"]) == (CALLER, CALLEE)
    assert speakers(two(participants=silent[:1]), ["1", "2"]) == (UNKNOWN, UNKNOWN)


def test_lines_without_labels_are_taken_in_the_order_of_the_streams() -> None:
    assert speakers(two(), [None, None]) == (CALLER, CALLEE)
    assert speakers(two(), [None, None, None]) == (UNKNOWN,) * 3
    assert speakers(two(), ["1", None]) == (CALLER, UNKNOWN)


def test_a_participant_that_has_left_a_stream_does_not_speak_on_it() -> None:
    left = METADATA.replace(
        "<send>sb</send>", "<disassociate-time>x</disassociate-time><send>sb</send>"
    )
    assert speakers(parse_metadata(left.encode()), ["1", "2"]) == (CALLER, UNKNOWN)


def test_a_partial_document_changes_what_it_names() -> None:
    old = two()
    new = RecordingMetadata(
        complete=False,
        participants=(Participant("b", sends=("z",)),),
        streams=(Stream("z", "9"),),
    )
    merged = merge(old, new)
    assert merged.participants[1] == Participant("b", "1002", sends=("z",))
    assert speakers(merged, ["1", "9"]) == (CALLER, CALLEE)
    assert merge(old, two(complete=True)) == two(complete=True)


def test_partial_documents_cannot_pile_up_participants() -> None:
    known = two()
    for number in range(MAX_PARTICIPANTS - len(known.participants)):
        known = merge(known, RecordingMetadata(False, (Participant(f"p{number}"),)))
    with pytest.raises(ProtocolError):
        merge(known, RecordingMetadata(False, (Participant("one too many"),)))


def test_ciscos_third_part_names_caller_and_called() -> None:
    body = b"IAM,\r\nCPN,02,,1,1001\r\nCGN,02,,1,y,2,1002\r\n"
    assert speakers(with_gtd(two(), body), ["1", "2"]) == (CALLEE, CALLER)
    assert with_gtd(two(calling="x", called="y"), body) == two(calling="x", called="y")


# XML.


def test_names_are_local_and_in_lower_case() -> None:
    root = parse_xml(b'<A:Root xmlns:A="u" A:Key="v"><B> t </B><b/></A:Root>')
    assert (root.name, root.attributes["key"]) == ("root", "v")
    assert [child.text for child in root.all("b")] == ["t", ""]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "malformed"),
        ("<a>", "malformed"),
        ("<a/><b/>", "malformed"),
        ("<a>&undefined;</a>", "malformed"),
        ("<!DOCTYPE a><a/>", "document_type"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "document_type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document_type"),
        ("<a>" * (MAX_DEPTH + 1), "too_large"),
        ("<a>" + "<b/>" * MAX_ELEMENTS + "</a>", "too_large"),
        ("<a>" + " " * 70_000 + "</a>", "oversized"),
        ("<a>\0</a>", "malformed"),
    ],
)
def test_xml_that_is_more_than_elements_and_text_is_refused(text: str, why: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_xml(text.encode())
    assert caught.value.reason == why


@pytest.mark.parametrize("encoding", ["idna", "rot13", "utf-16", "utf-7", "nonsense"])
def test_the_encoding_that_a_document_names_is_not_looked_up(encoding: str) -> None:
    assert parse_xml(f"<?xml version='1.0' encoding='{encoding}'?><a>ä</a>".encode()).text == "ä"


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    with pytest.raises(ProtocolError):
        parse_xml("<a>ä</a>".encode("latin-1"))


@given(st.binary(max_size=200))
def test_any_bytes_give_metadata_or_a_protocol_error(data: bytes) -> None:
    for document in (data, b"<recording>" + data, b"<recording><participant>" + data):
        try:
            parse_metadata(document)
        except ProtocolError:
            pass


_DOCUMENTS = [fixture(name).partition(b"<?xml")[2].partition(b"\r\n--")[0] for name in DIALECTS]


@given(
    st.sampled_from(_DOCUMENTS),
    st.lists(
        st.tuples(st.integers(0, 3_000), st.binary(max_size=6), st.integers(0, 30)), max_size=4
    ),
    st.lists(st.none() | st.sampled_from(["1", "2", "0", "a_leg", "b_leg"]), max_size=5),
)
def test_a_mutilated_document_never_does_more_than_fail(
    document: bytes, cuts: list[tuple[int, bytes, int]], labels: list[str | None]
) -> None:
    data = bytearray(b"<?xml" + document)
    for position, noise, length in cuts:
        data[position : position + length] = noise
    try:
        metadata = parse_metadata(bytes(data))
    except ProtocolError:
        return
    assert len(speakers(metadata, labels)) == len(labels)


def test_a_partial_document_moves_streams_between_those_who_are_known() -> None:
    """RFC 8068 section 3: a transfer tells what has changed, and names nobody again."""
    known = parse_metadata(METADATA.encode())
    handed_over = parse_metadata(
        b"<recording><datamode>partial</datamode>"
        b'<participant participant_id="c"><nameID aor="sip:1003@example.org"/></participant>'
        b'<participantstreamassoc participant_id="b"><send>sb</send>'
        b"<disassociate-time>2026-01-01T00:00:00Z</disassociate-time></participantstreamassoc>"
        b'<participantstreamassoc participant_id="c"><send>sb</send></participantstreamassoc>'
        b"</recording>"
    )
    now = merge(known, handed_over)
    assert speakers(now, ["1", "2"]) == (CALLER, CALLEE)
    assert [voice.users for voice in voices(now, ["1", "2"])] == [("1001",), ("1003",)]
    back = parse_metadata(
        b"<recording><datamode>partial</datamode>"
        b'<participantstreamassoc participant_id="b"><send>sb</send></participantstreamassoc>'
        b'<participantstreamassoc participant_id="c"><recv>sa</recv></participantstreamassoc>'
        b"</recording>"
    )
    assert [v.users for v in voices(merge(now, back), ["1", "2"])] == [("1001",), ("1002",)]
