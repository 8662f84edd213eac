"""Source settings: what is accepted, and what a mistake is told."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from streamguard.protocols.rtp_codecs import DTMF, PCMU
from streamguard.sources.settings import (
    FileSettings,
    MicSettings,
    RtpSettings,
    SourceLock,
    SourceSettings,
)

ADAPTER: TypeAdapter[Any] = TypeAdapter(SourceSettings)


def rtp(**values: Any) -> RtpSettings:
    return RtpSettings.model_validate({"name": "trunk", "ports": [40_000], **values})


def test_the_type_tells_the_sections_apart() -> None:
    parsed = [
        ADAPTER.validate_python(value)
        for value in (
            {"type": "file", "name": "a", "paths": ["x.wav"]},
            {"type": "mic", "name": "b"},
            {"type": "rtp", "name": "c", "ports": "40000-40006"},
        )
    ]
    assert [type(one) for one in parsed] == [FileSettings, MicSettings, RtpSettings]


def test_a_port_range_is_its_even_ports() -> None:
    assert rtp(ports="40000-40006").ports == (40_000, 40_002, 40_004, 40_006)
    assert rtp(ports="40001-40005").ports == (40_002, 40_004)


@pytest.mark.parametrize(
    "ports", ["40006-40000", "4000", "a-b", [40_001], [80], [], [40_000, 40_000], "2000-65000"]
)
def test_impossible_ports_are_refused(ports: object) -> None:
    with pytest.raises(ValidationError, match="ports"):
        rtp(ports=ports)


def test_rtp_listens_on_loopback_by_default_and_locks_to_address_and_port() -> None:
    settings = rtp()
    assert str(settings.host) == "127.0.0.1"
    assert settings.lock is SourceLock.ADDRESS_PORT


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_listening_off_loopback_needs_the_networks_that_may_send(host: str) -> None:
    with pytest.raises(ValidationError, match="allow"):
        rtp(host=host)
    assert rtp(host=host, allow=["192.0.2.0/24"]).allow


def test_a_wrong_network_is_refused() -> None:
    with pytest.raises(ValidationError, match="allow"):
        rtp(allow=["192.0.2.0/33"])


def test_payload_types_come_from_text_keys_as_yaml_has_them() -> None:
    settings = rtp(payload_types={"0": "PCMU", "100": "telephone-event"})
    assert settings.payload_types == {0: PCMU, 100: DTMF}


def test_payload_types_name_other_codecs_as_sdp_does() -> None:
    settings = rtp(payload_types={97: "L16/16000", 98: "telephone-event/16000"})
    assert [str(one) for one in settings.payload_types.values()] == [
        "L16/16000",
        "telephone-event/16000",
    ]


def test_a_codec_without_its_package_is_refused_in_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValidationError, match=r"payload_types.*\n.*streamguard\[codecs\]"):
        rtp(payload_types={9: "G722"})


@pytest.mark.parametrize("types", [{}, {13: "CN"}, {128: "PCMU"}, {0: "G729"}])
def test_payload_types_without_audio_or_out_of_range_are_refused(types: object) -> None:
    with pytest.raises(ValidationError, match="payload_types"):
        rtp(payload_types=types)


@pytest.mark.parametrize("name", ["", "a/b", "a+b", "a#", "x" * 65, "a b"])
def test_a_name_that_a_topic_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        rtp(name=name)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="jiter_ms"):
        rtp(jiter_ms=20)


def test_a_microphone_may_be_named_or_numbered() -> None:
    assert MicSettings(name="desk", device="USB").device == "USB"
    assert MicSettings(name="desk", device=3).device == 3
    with pytest.raises(ValidationError, match="latency"):
        MicSettings.model_validate({"name": "desk", "latency": "lowest"})


def test_every_field_says_what_it_is() -> None:
    for section in (FileSettings, MicSettings, RtpSettings):
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"
