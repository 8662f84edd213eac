"""The verb `check`: a configuration in words that a person can act on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands.cli import streamguard


def changed(small_models: Path, folder: Path, **sections: Any) -> Path:
    config = folder / "config.yaml"
    known = yaml.safe_load(small_models.read_text())
    config.write_text(yaml.safe_dump(known | sections))
    return config


def test_the_words_name_sources_models_rule_and_alerts(small_models: Path, tmp_path: Path) -> None:
    config = changed(
        small_models,
        tmp_path,
        mqtt={"host": "broker.example", "username": "u", "password": {"env": "P4SS"}},
    )
    done = streamguard("check", config)
    assert (done.code, done.err) == (0, "")
    for words in (
        f"ok  {config}: node streamguard",
        "line: RTP on 127.0.0.1, UDP 40000",
        "detector: opinionated 0.0.0",
        "attribution: tiny_attribution",
        "asked for CPUExecutionProvider fp32, got CPUExecutionProvider fp32",
        "raises after at least 3.0 s of net speech at LLR",
        "expected false alarms per 1,000 call-hours",
        "MQTT broker.example:1883 (no TLS), topics streamguard/streamguard/...",
    ):
        assert words in done.out
    assert "P4SS" not in done.out


def test_the_majority_rule_says_how_many_windows_and_seconds_it_needs(
    small_models: Path, tmp_path: Path
) -> None:
    rule = {"rule": "majority", "majority": {"k": 6, "n": 10, "quorum": 8}}
    config = changed(small_models, tmp_path, verdict=rule)
    out = streamguard("check", config).out
    assert "needs 6 of the last 10 accepted windows" in out
    assert "10 windows = up to 7.5 s of speech" in out
    assert "expected false alarms per 1,000 call-hours" in out


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({}, "no mqtt section: alerts wait in the outbox and reach nobody"),
        (
            {"sources": [{"name": "tape", "type": "file", "paths": ["none.wav"]}]},
            "source tape: no such file: none.wav",
        ),
        (
            {
                "sources": [
                    {
                        **{"name": "trunk", "type": "rtp", "ports": [40000]},
                        **{"host": "192.0.2.10", "allow": ["192.0.2.0/28"]},  # RFC 5737: nobody's
                    }
                ]
            },
            "source trunk: cannot listen on 192.0.2.10 here: Cannot assign requested address",
        ),
        (
            {"mqtt": {"tls": {"ca": "no-ca.pem"}}},
            "mqtt.tls: cannot read no-ca.pem (No such file or directory)",
        ),
        (
            {"mqtt": {"username": "u", "password": {"file": "mqtt-password"}}},
            "cannot read the secret file mqtt-password (No such file or directory)",
        ),
        (
            {"http": {"listen": "127.0.0.1:0", "token": {"file": "http-token"}}},
            "cannot read the secret file http-token (No such file or directory)",
        ),
    ],
)
def test_what_will_not_do_what_is_hoped_for_is_a_warning(
    sections: dict[str, Any], words: str, small_models: Path, tmp_path: Path
) -> None:
    config = changed(small_models, tmp_path, **sections)
    done = streamguard("check", config)
    assert done.code == 0
    assert f"warning  {words}" in done.out
    assert words in streamguard("check", "--json", config).json()["warnings"]


def test_numbers_are_hashed_from_standard_input_and_never_repeated(
    small_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_POLICY_KEY", "a key of the operator")
    config = tmp_path / "config.yaml"
    sections = yaml.safe_load(small_models.read_text())
    sections["policy"] = {"identity_key": {"env": "TEST_POLICY_KEY"}}
    config.write_text(yaml.safe_dump(sections))
    monkeypatch.setattr("sys.stdin", io.StringIO("+49 30 123\n\nsip:+4930123@pbx\n"))
    done = streamguard("check", str(config), "--hash-identity", "number")
    assert done.code == 0, done.err
    first, empty, third = done.out.splitlines()
    assert first == third
    assert len(first) == 32
    assert empty == ""


def test_hashing_without_a_key_is_a_configuration_error(small_models: Path) -> None:
    done = streamguard("check", str(small_models), "--hash-identity", "trunk")
    assert done.code == 2
    assert "policy.identity_key" in done.err
