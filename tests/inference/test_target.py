"""Engine targets: the packaged ones load, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamguard.errors import EngineError
from streamguard.inference.engine import EngineTarget, GpuOptions
from streamguard.inference.target import load_target
from streamguard.resources import packaged_targets

GOOD = """\
name: mine
runtime: onnxruntime
provider: CPUExecutionProvider
precision: fp32
threads: 2
batch_sizes: [1, 4]
"""


def test_every_packaged_target_loads_under_its_file_name() -> None:
    assert "cpu-fp32" in packaged_targets()
    for name in packaged_targets():
        assert load_target(name).name == name


def test_a_target_of_ones_own_is_found_by_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD)
    target = load_target(file)
    assert (target.name, target.threads, target.batch_sizes) == ("mine", 2, (1, 4))
    assert target.allow_fallback is False


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("threads: 2", "threads: 0", "threads"),
        ("threads: 2", "threads: true", "threads"),
        ("threads: 2", "thread: 2", "thread"),
        ("[1, 4]", "[4, 1]", "must ascend"),
        ("[1, 4]", "[1, 1]", "must ascend"),
        ("[1, 4]", "[]", "batch_sizes"),
        ("onnxruntime", "tensorflow", "runtime"),
        ("onnxruntime", "torch", "torch has cuda and cpu"),
        ("onnxruntime", "tensorrt", "tensorrt has tensorrt"),
        ("CPUExecutionProvider", "cuda", "onnxruntime names them like CUDAExecutionProvider"),
        ("[1, 4]", "[1, 2048]", "batch_sizes"),
        ("[1, 4]", "[1, 4]\ngpu: {cuda_graphs: true}", "gpu.cuda_graphs: not a key"),
        ("[1, 4]", "[1, 4]\ngpu: {cuda_graph: true}", "gpu.cuda_graph"),
        ("fp32", "fp64", "precision"),
        ("CPUExecutionProvider", "cpu", "provider"),
        ("name: mine", "name: mine\nname: yours", "given twice"),
    ],
)
def test_a_mistake_in_a_target_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(EngineError) as caught:
        load_target(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_an_unknown_target_names_the_packaged_ones() -> None:
    with pytest.raises(EngineError, match="cpu-fp32"):
        load_target("no-such-target")


GPU = """\
name: mine
runtime: {runtime}
provider: {provider}
precision: {precision}
threads: 1
batch_sizes: [1, 64]
allow_fallback: {fallback}
gpu: {gpu}
"""


def gpu_target(tmp_path: Path, gpu: str, **given: str) -> EngineTarget:
    values = {
        "runtime": "tensorrt", "provider": "tensorrt", "precision": "fp16", "fallback": "false",
    }  # fmt: skip
    file = tmp_path / "mine.yaml"
    file.write_text(GPU.format(gpu=gpu, **(values | given)))
    return load_target(file)


def test_the_keys_of_a_gpu_are_read_and_the_others_keep_their_defaults(tmp_path: Path) -> None:
    target = gpu_target(tmp_path, "{device_id: 1, workspace_mib: 512, timing_cache: false}")
    assert target.gpu == GpuOptions(device_id=1, workspace_mib=512, timing_cache=False)


def test_a_gpu_provider_without_a_section_has_the_defaults(tmp_path: Path) -> None:
    assert gpu_target(tmp_path, "null").gpu == GpuOptions()
    assert load_target("cpu-fp32").gpu is None


@pytest.mark.parametrize(
    ("gpu", "given", "says"),
    [
        ("{memory_mib: 512}", {}, "gpu.memory_mib: not a key for tensorrt with tensorrt (keys"),
        (
            "{workspace_mib: 512}",
            {"runtime": "onnxruntime", "provider": "CUDAExecutionProvider"},
            "(keys that are: cuda_graphs, device_id, memory_mib)",
        ),
        (
            "{cuda_graphs: true}",
            {"runtime": "onnxruntime", "provider": "TensorrtExecutionProvider"},
            "gpu.cuda_graphs: not a key for onnxruntime with TensorrtExecutionProvider",
        ),
        ("{}", {"fallback": "true"}, "allow_fallback: true: a TensorRT plan runs nowhere else"),
        ("{}", {"runtime": "torch", "provider": "cuda", "precision": "int8"}, "precision: int8"),
        ("{optimization_level: 6}", {}, "gpu.optimization_level"),
        ("{device_id: -1}", {}, "gpu.device_id"),
    ],
)
def test_a_key_that_does_not_fit_the_runtime_is_named(
    tmp_path: Path, gpu: str, given: dict[str, str], says: str
) -> None:
    with pytest.raises(EngineError) as caught:
        gpu_target(tmp_path, gpu, **given)
    assert says in str(caught.value)
