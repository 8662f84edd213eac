"""The verbs `models` and `devices`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from tests.commands.cli import streamguard


@pytest.fixture
def shelf(small_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of packaged models with one good bundle in it."""
    sections = yaml.safe_load(small_models.read_text())
    target = tmp_path / "models" / "good"
    target.mkdir(parents=True)
    (target / "bundle").symlink_to(sections["detector"])
    monkeypatch.setattr("streamguard.resources.data_root", lambda: tmp_path)
    return tmp_path / "models"


def test_models_are_listed_with_their_task_and_channels(shelf: Path) -> None:
    done = streamguard("models")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[1].split()[:5] == [
        "opinionated",
        "0.0.0",
        "detection",
        "fp32",
        "narrow,",
    ]
    (model,) = streamguard("models", "--json").json()["models"]
    assert model["channels"] == ["narrow", "wide"]


def test_a_broken_bundle_is_named_and_makes_the_exit_code_1(shelf: Path) -> None:
    (shelf / "bad" / "bundle").mkdir(parents=True)
    (shelf / "bad" / "bundle" / "bundle.yaml").write_text("name: bad\n")
    done = streamguard("models")
    assert done.code == 1
    assert "broken: bad: " in done.err
    assert "opinionated" in done.out
    found = streamguard("models", "--json")
    assert found.code == 1
    assert [b["name"] for b in found.json()["broken"]] == ["bad"]


def test_devices_without_the_extra_say_what_is_missing_and_list_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    done = streamguard("devices")
    assert done.code == 0
    assert "CPUExecutionProvider" in done.out
    assert "pip install 'streamguard[mic]'" in done.err
    found = streamguard("devices", "--json").json()
    assert found["microphones"] == []
    assert "streamguard[mic]" in found["microphones_error"]
