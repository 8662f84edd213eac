"""From SDP, a static number or a configuration to the codec on its clock."""

from __future__ import annotations

import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.audio.decoders import Codec
from streamguard.errors import MissingExtraError
from streamguard.protocols.rtp_codecs import (
    PCMU,
    STATIC_FORMATS,
    PayloadFormat,
    parse_rtpmap,
    payload_format,
)


@pytest.fixture(autouse=True)
def _all_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.parametrize(
    ("number", "codec", "clock_hz", "rate_hz"),
    [
        (0, Codec.PCMU, 8_000, 8_000),
        (3, Codec.GSM, 8_000, 8_000),
        (8, Codec.PCMA, 8_000, 8_000),
        (9, Codec.G722, 8_000, 16_000),
        (11, Codec.L16, 44_100, 44_100),
        (13, None, 8_000, 8_000),
    ],
)
def test_static_numbers_need_no_rtpmap(
    number: int, codec: Codec | None, clock_hz: int, rate_hz: int
) -> None:
    found = payload_format(number)
    assert found is not None
    assert (found.codec, found.clock_hz, found.rate_hz) == (codec, clock_hz, rate_hz)


@pytest.mark.parametrize(
    ("encoding", "clock_hz", "channels", "name", "rate_hz"),
    [
        ("pcmu", 8_000, None, "PCMU", 8_000),
        ("PCMA", 8_000, 1, "PCMA", 8_000),
        ("G722", 8_000, None, "G722", 16_000),
        ("g722", 16_000, 1, "G722", 16_000),
        ("OPUS", 48_000, 2, "opus", 48_000),
        ("L16", 16_000, None, "L16", 16_000),
        ("L16", 48_000, 1, "L16", 48_000),
        ("gsm", 8_000, None, "GSM", 8_000),
        ("CN", 16_000, None, "CN", 16_000),
        ("Telephone-Event", 48_000, None, "telephone-event", 48_000),
    ],
)
def test_dynamic_numbers_are_what_the_rtpmap_says(
    encoding: str, clock_hz: int, channels: int | None, name: str, rate_hz: int
) -> None:
    found = payload_format(96, encoding, clock_hz, channels)
    assert found is not None
    assert (found.name, found.clock_hz, found.rate_hz) == (name, clock_hz, rate_hz)


@pytest.mark.parametrize(
    ("encoding", "clock_hz", "channels"),
    [
        ("G729", 8_000, None),
        ("AMR-WB", 16_000, None),
        ("iLBC", 8_000, None),
        ("PCMU", 16_000, None),
        ("opus", 8_000, 2),
        ("L16", 44_100, 2),
        ("L16", 7_000, 1),
        ("CN", 7_000, None),
        ("", 8_000, None),
    ],
)
def test_what_cannot_be_decoded_is_left_out(
    encoding: str, clock_hz: int, channels: int | None
) -> None:
    assert payload_format(96, encoding, clock_hz, channels) is None


@pytest.mark.parametrize("number", [4, 10, 18, 96, 127])
def test_numbers_without_a_decoder_mean_nothing_by_themselves(number: int) -> None:
    assert payload_format(number) is None


@pytest.mark.parametrize("number", [3, 9])
def test_a_missing_extra_is_said_before_the_call(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="codecs"):
        payload_format(number)
    with pytest.raises(MissingExtraError, match="codecs"):
        parse_rtpmap("opus/48000/2")
    assert payload_format(0) is PCMU


@pytest.mark.parametrize("text", ["PCMU", "opus/48000/2", "L16/16000", "CN", "telephone-event"])
def test_a_configuration_names_formats_as_sdp_does(text: str) -> None:
    found = parse_rtpmap(text)
    assert found.name == text.partition("/")[0]
    assert parse_rtpmap(str(found)) == found


@pytest.mark.parametrize(
    "text", ["", "PCMU/", "PCMU/8k", "opus/48000/2/1", "mp3", "PCMU/٨", "PCMU/99999999999999"]
)
def test_a_wrong_format_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r"one of PCMU, .*telephone-event"):
        parse_rtpmap(text)


@given(st.text(max_size=30))
def test_any_text_is_a_format_or_a_value_error(text: str) -> None:
    try:
        assert isinstance(parse_rtpmap(text), PayloadFormat)
    except ValueError:
        pass


def test_the_clock_of_g722_counts_half_its_samples() -> None:
    g722 = STATIC_FORMATS[9]
    assert (g722.samples(160), g722.ticks(320)) == (320, 160)
