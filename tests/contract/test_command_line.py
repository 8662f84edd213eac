"""The command line, which users rely on: verbs, exit codes, analyze --json."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import yaml

from streamguard import __version__
from tests.commands.cli import Done, streamguard

VERBS = ("run check schema devices analyze bench models engine publish-test demo version").split()
STATES = {"UNKNOWN", "BONAFIDE", "SUSPECT", "SPOOF"}
REASONS = {
    "silence",
    "non_speech",
    "clipped",
    "packet_loss",
    "tone",
    "music",
    "announcement",
    "overload",
    "uncalibrated",
    "out_of_distribution",
    "low_confidence",
}
CHANNELS = {"wide", "narrow", "low_rate"}
KEYS = {"file", "duration_s", "net_speech_s", "channel", "verdict", "windows", "model"}


# Verbs and exit codes


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help(verb: str) -> None:
    done = streamguard(verb, "--help")
    assert done.code == 0
    assert f"usage: streamguard {verb}" in done.out


def test_the_help_names_every_verb() -> None:
    lines = streamguard("--help").out.splitlines()
    assert {line.split()[0] for line in lines if line.startswith("    ")} >= set(VERBS)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("analyse",),
        ("analyze",),
        ("run",),
        ("check",),
        ("publish-test",),
        ("version", "--verbose"),
        ("analyze", "x.wav", "--plot", "x.docx"),
        ("analyze", "x.wav", "--plot", "no/such/folder/x.png"),
    ],
)
def test_wrong_usage_exits_2_and_says_so_on_standard_error(arguments: tuple[str, ...]) -> None:
    done = streamguard(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "usage: streamguard" in done.err


def test_version_prints_the_version_and_nothing_else() -> None:
    assert streamguard("version") == Done(0, f"{__version__}\n", "")


def test_schema_is_one_json_schema_of_the_configuration() -> None:
    done = streamguard("schema")
    schema = json.loads(done.out)
    assert done.code == 0
    assert schema["additionalProperties"] is False
    assert {"sources", "detector", "mqtt"} <= schema["properties"].keys()


@pytest.mark.parametrize("verb", ["run", "check", "publish-test"])
def test_a_bad_configuration_exits_2_with_every_error_in_its_line(
    verb: str, tmp_path: Path
) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text("prior: 7\nsources:\n  - {name: a, type: rtp, ports: [1]}\ndetektor: x\n")
    done = streamguard(verb, config)
    assert (done.code, done.out) == (2, "")
    lines = done.err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        [f"{config}:1", "prior"],
        [f"{config}:3", "sources[0].ports[0]"],
        [f"{config}:4", "detektor"],
    ]
    # file:line: key: value: what is allowed
    assert all(len(line.split(": ")) >= 4 for line in lines)
    assert "less than 1" in lines[0]


@pytest.mark.parametrize("verb", ["run", "check", "publish-test"])
def test_a_configuration_that_is_not_there_exits_2(verb: str, tmp_path: Path) -> None:
    done = streamguard(verb, tmp_path / "none.yaml")
    assert done.code == 2
    assert done.err == (
        f"{tmp_path / 'none.yaml'}:0: (file): No such file or directory: a readable YAML file\n"
    )


def test_analyze_with_a_bad_configuration_exits_2(tmp_path: Path) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text("sources: []\n")
    done = streamguard("analyze", "--config", config, "x.wav")
    assert done.code == 2
    assert f"{config}:1: " in done.err


# Bundles that are refused


def _spoil(config: Path, tmp_path: Path, change: str) -> tuple[Path, Path]:
    """A copy of the detector with one fault; the configuration that names it, and the bundle."""
    sections = yaml.safe_load(config.read_text())
    old, new = Path(sections["detector"]), tmp_path / "bundle"
    new.mkdir()
    for file in old.iterdir():
        (new / file.name).write_bytes(file.read_bytes())
    manifest = yaml.safe_load((new / "bundle.yaml").read_text())
    match change:
        case "hash":
            with (new / "hop.onnx").open("ab") as graph:
                graph.write(b"\0")
        case "missing":
            (new / "head.onnx").unlink()
        case "shape":
            manifest["graphs"]["head_fp32"]["inputs"][0]["shape"] = ["batch", 2]
            manifest["graphs"]["hop_fp32"]["outputs"][0]["shape"] = ["batch", 2]
        case "key":
            manifest["colour"] = "blue"
    (new / "bundle.yaml").write_text(json.dumps(manifest))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sections | {"detector": str(new)}))
    return tmp_path / "config.yaml", new


@pytest.mark.parametrize("verb", ["run", "check", "analyze"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("hash", ("hop.onnx: graphs.hop_fp32.sha256: ",)),
        ("missing", ("head.onnx: there is no such file",)),
        ("shape", ("hop.onnx: graphs.hop_fp32.outputs.sums.shape: declared", "it is")),
        ("key", ("bundle.yaml: colour: ",)),
    ],
)
def test_a_broken_bundle_is_refused_by_name(
    verb: str,
    change: str,
    words: tuple[str, ...],
    small_models: Path,
    tmp_path: Path,
    voice: Path,
) -> None:
    config, bundle = _spoil(small_models, tmp_path, change)
    done = streamguard(
        *(("analyze", voice, "--config", config) if verb == "analyze" else (verb, config))
    )
    assert (done.code, done.out) == (1, "")
    assert all(word in done.err for word in words), done.err
    assert "Traceback" not in done.err
    if change == "hash":
        actual = hashlib.sha256((bundle / "hop.onnx").read_bytes()).hexdigest()
        stated = json.loads((bundle / "bundle.yaml").read_text())["graphs"]["hop_fp32"]["sha256"]
        assert actual in done.err
        assert stated in done.err


# The JSON of analyze


def check_object(found: dict[str, Any], file: str) -> None:
    """One object of ``analyze --json`` has the keys and types that users rely on."""
    assert found.keys() >= KEYS
    assert found["file"] == file
    for key in ("duration_s", "net_speech_s"):
        assert isinstance(found[key], float), key
        assert found[key] >= 0
    assert found["channel"] in CHANNELS
    verdict = found["verdict"]
    assert verdict.keys() == {"state", "llr", "p_spoof", "technology", "generator"}
    assert verdict["state"] in STATES
    assert isinstance(verdict["llr"], float)
    assert 0 <= verdict["p_spoof"] <= 1
    for window in found["windows"]:
        assert window.keys() == {"start_s", "end_s", "llr", "rejected", "technology", "generator"}
        assert 0 <= window["start_s"] < window["end_s"] <= found["duration_s"] + 1e-9
        assert window["rejected"] is None or window["rejected"] in REASONS
        assert window["llr"] is None or isinstance(window["llr"], float)
        if window["llr"] is None:
            assert window["rejected"] is not None
    for place in (verdict, *found["windows"]):
        for kind in ("technology", "generator"):
            assert place[kind] is None or isinstance(place[kind], str)
    assert found["model"].keys() == {"detector", "attribution"}
    for model in found["model"].values():
        if model is not None:
            assert model.keys() == {"name", "sha256"}
            assert len(model["sha256"]) == 64


def test_one_object_per_line_and_file_in_the_order_of_the_arguments(
    small_models: Path, voice: Path, tmp_path: Path
) -> None:
    narrow = tmp_path / "narrow.wav"
    samples, _ = sf.read(voice, dtype="int16")
    sf.write(narrow, samples[::2], 8000, subtype="ULAW")
    missing = tmp_path / "missing.wav"
    done = streamguard("analyze", "--json", "--config", small_models, voice, missing, narrow)
    assert done.code == 1  # because of the one that is missing
    wide, error, second = done.json_lines()
    check_object(wide, str(voice))
    assert error == {"file": str(missing), "error": "no such file"}
    check_object(second, str(narrow))
    assert done.err == ""
    assert (wide["channel"], second["channel"]) == ("wide", "narrow")
    assert wide["duration_s"] == 6.0
    assert [w["end_s"] for w in wide["windows"]] == [3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0]
    assert wide["verdict"]["state"] == "SPOOF"
    assert wide["verdict"]["llr"] > 0
    manifest = Path(yaml.safe_load(small_models.read_text())["detector"]) / "bundle.yaml"
    assert wide["model"]["detector"] == {
        "name": "opinionated",
        "sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
    }


def test_p_spoof_uses_the_prior_and_the_llr_does_not(
    small_models: Path, voice: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    found = []
    for prior in (0.01, 0.5):
        sections = yaml.safe_load(small_models.read_text()) | {"prior": prior}
        config.write_text(yaml.safe_dump(sections))
        verdict = streamguard("analyze", "--json", "--config", config, voice).json()["verdict"]
        odds = np.exp(verdict["llr"]) * prior / (1 - prior)
        assert verdict["p_spoof"] == pytest.approx(odds / (1 + odds), abs=1e-4)
        found.append(verdict["llr"])
    assert found[0] == found[1]


def test_labels_are_named_when_accepted(small_models: Path, voice: Path) -> None:
    found = streamguard("analyze", "--json", "--config", small_models, voice).json()
    assert (found["verdict"]["technology"], found["verdict"]["generator"]) == ("tts", "alpha")
    assert {window["technology"] for window in found["windows"]} == {"tts"}
    assert found["model"]["attribution"]["name"] == "tiny_attribution"


@pytest.mark.parametrize(("attribution", "logit"), [("none", 0.0), ("unsure", 0.0)])
def test_labels_are_null_when_rejected_or_not_run(
    attribution: str, logit: float, small_models: Path, voice: Path, tmp_path: Path
) -> None:
    from tests.commands.bundles import naming_bundle

    bundle = None if attribution == "none" else str(naming_bundle(tmp_path / "b", logit, logit))
    config = tmp_path / "config.yaml"
    sections = yaml.safe_load(small_models.read_text()) | {"attribution": bundle}
    config.write_text(yaml.safe_dump(sections))
    found = streamguard("analyze", "--json", "--config", config, voice).json()
    places = [found["verdict"], *found["windows"]]
    assert {place[kind] for place in places for kind in ("technology", "generator")} == {None}
    assert (found["model"]["attribution"] is None) == (bundle is None)


def test_a_rejected_window_says_why_and_a_scorable_one_keeps_its_llr(
    small_models: Path, voice: Path, tmp_path: Path
) -> None:
    speech, rate = sf.read(voice, dtype="int16")
    file = tmp_path / "pauses.wav"
    sf.write(file, np.concatenate([speech, np.zeros(6 * rate, np.int16)]), rate)
    found = streamguard("analyze", "--json", "--config", small_models, file).json()
    check_object(found, str(file))
    by_end = {window["end_s"]: window for window in found["windows"]}
    assert by_end[6.0]["rejected"] is None
    assert by_end[12.0]["rejected"] == "silence"
    assert by_end[12.0]["llr"] is None  # nothing in it that could be scored
    between = [w for w in found["windows"] if w["rejected"] and w["llr"] is not None]
    assert between, "a window with a last word in it is scored, though it is no evidence"


# The other verbs that a program may read


def test_check_json_is_one_object_with_the_rule_in_words(small_models: Path) -> None:
    done = streamguard("check", "--json", small_models)
    found = done.json()
    assert done.code == 0
    assert found["ok"] is True
    assert found["sources"][0]["name"] == "line"
    words = " ".join(found["rule_in_words"])
    assert "raises after at least" in words
    assert "expected false alarms per 1,000 call-hours" in words
    assert any("mqtt" in warning for warning in found["warnings"])


def test_models_json_is_one_object() -> None:
    done = streamguard("models", "--json")
    found = done.json()
    assert found.keys() == {"models", "broken"}
    assert done.code == (1 if found["broken"] else 0)
    for model in found["models"]:
        assert {"name", "version", "task", "precisions", "channels", "sha256"} <= model.keys()


def test_devices_json_is_one_object() -> None:
    done = streamguard("devices", "--json")
    found = done.json()
    assert done.code == 0
    assert "CPUExecutionProvider" in found["providers"]
    assert "cpu-fp32" in found["targets"]
    assert isinstance(found["microphones"], list)
