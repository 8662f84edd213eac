"""``streamguard engine``: the list, and building plans around the declared fakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamguard.cli import main
from streamguard.resources import packaged_config, packaged_targets
from tests.inference import fake_cuda, fake_tensorrt
from tests.inference.test_ort import detector

TARGET = """\
name: {name}
runtime: tensorrt
provider: tensorrt
precision: fp32
threads: 1
batch_sizes: [1, 4]
gpu: {{plan_dir: {plans}}}
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fake_tensorrt.install(monkeypatch, fake_cuda.install(monkeypatch))
    file = tmp_path / "mine.yaml"
    file.write_text(TARGET.format(name="mine", plans=tmp_path / "plans"))
    return file


def test_the_list_has_every_target_and_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["engine", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in found["targets"]}
    assert set(rows) == set(packaged_targets())
    assert rows["cpu-fp32"]["missing"] is None
    assert "tensorrt" in rows["tensorrt-fp16"]["missing"]
    assert found["plans"] == []
    assert main(["engine", "list"]) == 0
    assert "streamguard[tensorrt]" in capsys.readouterr().out


def test_plans_are_built_once_and_then_found(
    target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector(tmp_path / "bundle")
    arguments = ["engine", "build", "--target", str(target), "--bundle", str(tmp_path / "bundle")]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "tiny hop_fp32 for NVIDIA Fake (9.0)" in out
    assert len(list((tmp_path / "plans").glob("*.plan"))) == 2
    builds = len(fake_tensorrt.Builder.configs)
    assert main(arguments) == 0
    assert "there already" in capsys.readouterr().out
    assert len(fake_tensorrt.Builder.configs) == builds == 2
    assert main([*arguments, "--force"]) == 0
    assert len(fake_tensorrt.Builder.configs) == 4


def test_a_target_that_needs_no_plan_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "build", "--target", "cpu-fp32"]) == 1
    assert "runtime onnxruntime needs nothing built" in capsys.readouterr().err


def test_the_gpu_configuration_says_what_this_machine_lacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has the CUDA provider")
    assert main(["check", str(packaged_config("gpu"))]) == 1
    assert "engine cuda-fp16: CUDAExecutionProvider is not available" in capsys.readouterr().err
