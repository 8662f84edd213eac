"""The verb `analyze` on a capture: every leg of every call is judged, with its role."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.captures import narrow, sip_call, tone
from tests.commands.cli import streamguard
from tools.capture_writer import write_pcap


@pytest.fixture
def capture(tmp_path: Path, voice: Path) -> Path:
    path = tmp_path / "calls.pcap"
    write_pcap(path, sip_call(narrow(voice), tone(5.0)), link_type=101)
    return path


def test_the_legs_of_a_capture_are_told_apart_by_call_and_role(
    small_models: Path, capture: Path
) -> None:
    done = streamguard("analyze", "--json", "--config", small_models, capture)
    assert (done.code, done.err) == (0, "")
    found = done.json()
    assert [(leg["call"], leg["role"], leg["codec"]) for leg in found["legs"]] == [
        (0, "caller", "PCMU"),
        (0, "callee", "PCMU"),
    ]
    assert found["leg"] == 0
    assert found["verdict"]["state"] == "SPOOF"
    assert found["channel"] == "narrow"
    assert found["duration_s"] == pytest.approx(6.0, abs=0.03)
    done = streamguard("analyze", "--config", small_models, capture)
    assert "calls.pcap [call 0 caller]" in done.out


def test_a_capture_without_a_call_is_an_error_of_that_file(
    small_models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "empty.pcap"
    write_pcap(path, [])
    done = streamguard("analyze", "--json", "--config", small_models, path)
    assert done.code == 1
    assert "no call found in 0 frames" in done.json()["error"]
