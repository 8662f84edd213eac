"""The native TensorRT engine and its plans, around a declared fake of TensorRT and of CUDA.

Nothing here runs on a GPU: see tests/inference/fake_tensorrt.py for what that can and can't show.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from streamguard.errors import EngineError, MissingExtraError
from streamguard.inference.bundle import Bundle
from streamguard.inference.cuda import CudaDevice
from streamguard.inference.engine import EngineTarget, GpuOptions
from streamguard.inference.ort import OrtEngine
from streamguard.inference.plans import PlanKey, PlanStore, plan_key
from streamguard.inference.tensorrt_api import load_tensorrt
from streamguard.inference.tensorrt_build import build_plan
from streamguard.inference.tensorrt_engine import TensorRtEngine, runtime_name
from tests.inference import fake_cuda, fake_tensorrt
from tests.inference.fake_cuda import FakeCuda, cudaError_t
from tests.inference.fake_tensorrt import FakeTensorRt
from tests.inference.test_ort import TARGET as CPU
from tests.inference.test_ort import detector, samples

SIZES = (1, 2, 4)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return fake_cuda.install(monkeypatch)


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> FakeTensorRt:
    return fake_tensorrt.install(monkeypatch, cuda)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return detector(tmp_path / "bundle", state=True)


@pytest.fixture
def target(tmp_path: Path) -> EngineTarget:
    gpu = GpuOptions(cuda_graphs=True, workspace_mib=64, plan_dir=str(tmp_path / "plans"))
    return EngineTarget("trt", "tensorrt", "tensorrt", "fp32", 1, SIZES, gpu=gpu)


def build(bundle: Bundle, target: EngineTarget) -> list[PlanKey]:
    """As the command does, for hop and head."""
    assert target.gpu is not None
    api = load_tensorrt(target.name)
    device = CudaDevice(target.name, 0)
    keys = [
        plan_key(bundle, graph, target, target.gpu, device, runtime_name(api))
        for graph in ("hop_fp32", "head_fp32")
    ]
    for key in keys:
        build_plan(api, bundle, key, target.batch_sizes, target.gpu)
    device.close()
    return keys


def store(target: EngineTarget) -> PlanStore:
    assert target.gpu is not None
    return PlanStore(target.name, target.gpu.plan_dir)


# The engine.


@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 4, 9])
def test_the_plan_gives_what_onnxruntime_gives(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt, rows: int, cuda_graphs: bool
) -> None:
    assert target.gpu is not None
    gpu = dataclasses.replace(target.gpu, cuda_graphs=cuda_graphs)
    target = dataclasses.replace(target, gpu=gpu)
    build(bundle, target)
    engine, oracle = TensorRtEngine(bundle, target), OrtEngine(bundle, CPU)
    for _ in range(3):  # plain, captured, replayed
        state = np.arange(rows, dtype=np.float32)[:, None]
        given = {"samples": samples(rows), "state_in": state}
        ours, theirs = engine.run("hop_fp32", given), oracle.run("hop_fp32", given)
        assert ours.keys() == theirs.keys()
        for name in theirs:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-3)
    engine.close()
    oracle.close()


def test_results_outlive_the_next_batch(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt
) -> None:
    build(bundle, target)
    engine = TensorRtEngine(bundle, target)
    given = {"samples": samples(2), "state_in": np.zeros((2, 1), np.float32)}
    first = engine.run("hop_fp32", given)
    kept = first["sums"].copy()
    engine.run("hop_fp32", given | {"samples": samples(2)})
    np.testing.assert_array_equal(first["sums"], kept)
    engine.close()


def test_a_batch_size_is_captured_once_and_then_replayed(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt, cuda: FakeCuda
) -> None:
    build(bundle, target)
    engine = TensorRtEngine(bundle, target)
    engine.warm_up()
    assert len(cuda.graphs) == 2 * len(SIZES)
    before = cuda.launches
    engine.run("hop_fp32", {"samples": samples(3), "state_in": np.zeros((3, 1), np.float32)})
    assert cuda.launches == before + 1
    assert len(cuda.graphs) == 2 * len(SIZES)
    engine.close()


def test_closing_gives_everything_back(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt, cuda: FakeCuda
) -> None:
    build(bundle, target)
    engine = TensorRtEngine(bundle, target)
    engine.warm_up()
    assert cuda.memory
    assert cuda.graphs
    engine.close()
    assert (cuda.memory, cuda.graphs, cuda.streams) == ({}, {}, set())


def test_an_engine_that_was_opened_in_another_thread_runs_on_its_own_device(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt, cuda: FakeCuda
) -> None:
    """As after a reload: the daemon opens new models beside the running ones."""
    cuda.devices = 2
    assert target.gpu is not None
    target = dataclasses.replace(target, gpu=dataclasses.replace(target.gpu, device_id=1))
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(build, bundle, target).result()
        engine = elsewhere.submit(TensorRtEngine, bundle, target).result()
    given = {"samples": samples(2), "state_in": np.zeros((2, 1), np.float32)}
    assert np.isfinite(engine.run("hop_fp32", given)["sums"]).all()
    engine.close()


def test_asked_and_got_name_tensorrt_and_its_version(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt
) -> None:
    build(bundle, target)
    engine = TensorRtEngine(bundle, target)
    assert (engine.info.requested_provider, engine.info.provider) == ("tensorrt", "tensorrt")
    assert engine.info.runtime_version == "tensorrt 11.4.0.106"
    engine.close()


def test_a_batch_that_does_not_run_is_an_error_and_leaves_no_open_capture(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt, cuda: FakeCuda,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    build(bundle, target)
    engine = TensorRtEngine(bundle, target)
    given = {"samples": samples(1), "state_in": np.zeros((1, 1), np.float32)}
    engine.run("hop_fp32", given)
    monkeypatch.setattr(FakeTensorRt, "breaks", True)
    with pytest.raises(EngineError, match="a batch of 1 did not run"):
        engine.run("hop_fp32", given)
    assert cuda.capturing is None
    engine.close()


def test_an_error_of_cuda_is_named(bundle: Bundle, target: EngineTarget, trt: FakeTensorRt,
                                   cuda: FakeCuda) -> None:  # fmt: skip
    build(bundle, target)
    cuda.fails["cudaMalloc"] = cudaError_t.cudaErrorInvalidValue
    with pytest.raises(EngineError, match="cudaMalloc: cudaErrorInvalidValue"):
        TensorRtEngine(bundle, target)


@pytest.mark.parametrize("fit", [0, 1, 3, 5])
def test_a_gpu_that_is_full_is_an_error_and_keeps_nothing(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt, cuda: FakeCuda, fit: int
) -> None:
    build(bundle, target)
    cuda.most_mallocs = fit
    with pytest.raises(EngineError, match="cudaMalloc: cudaErrorMemoryAllocation"):
        TensorRtEngine(bundle, target)
    assert (cuda.memory, cuda.streams) == ({}, set())


def test_a_device_that_is_not_there_is_an_error(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt
) -> None:
    assert target.gpu is not None
    target = dataclasses.replace(target, gpu=dataclasses.replace(target.gpu, device_id=1))
    with pytest.raises(EngineError, match=r"gpu\.device_id: 1: there are 1 device"):
        TensorRtEngine(bundle, target)


def test_without_the_package_the_extra_is_named(bundle: Bundle, target: EngineTarget) -> None:
    with pytest.raises(MissingExtraError, match=r"streamguard\[tensorrt\]"):
        TensorRtEngine(bundle, target)


def test_an_old_tensorrt_is_refused(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt
) -> None:
    trt.__version__ = "8.6.1"
    with pytest.raises(EngineError, match=r"TensorRT 8\.6\.1: at least 10"):
        TensorRtEngine(bundle, target)


# Plans.


def test_without_a_plan_the_command_that_builds_it_is_named(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt
) -> None:
    with pytest.raises(EngineError, match=r"no plan for tiny .*engine build --target trt --bundle"):
        TensorRtEngine(bundle, target)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("gpu", "device NVIDIA Fake, here NVIDIA Other"),
        ("capability", r"capability 9\.0, here 10\.0"),
        ("version", r"runtime tensorrt 11\.4\.0\.106, here tensorrt 10\.13\.0\.35"),
        ("sizes", "shapes .* x 1,2,4, here .* x 1,8"),
        ("workspace", "options workspace 64 MiB"),
        ("weights", "bundle_sha256"),
    ],
)
def test_a_plan_for_something_else_is_refused_and_the_difference_is_said(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt, cuda: FakeCuda, change: str, says: str
) -> None:
    build(bundle, target)
    assert target.gpu is not None
    match change:
        case "gpu":
            cuda.name = b"NVIDIA Other"
        case "capability":
            cuda.capability = (10, 0)
        case "version":
            trt.__version__ = "10.13.0.35"
        case "sizes":
            target = dataclasses.replace(target, batch_sizes=(1, 8))
        case "workspace":
            gpu = GpuOptions(cuda_graphs=True, plan_dir=str(store(target).folder))
            target = dataclasses.replace(target, gpu=gpu)
        case "weights":
            bundle = dataclasses.replace(bundle, sha256="f" * 64)
    with pytest.raises(EngineError, match=rf"the nearest was built for {says}"):
        TensorRtEngine(bundle, target)


def test_a_plan_that_was_changed_is_not_loaded(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt
) -> None:
    key, _ = build(bundle, target)
    file = store(target).folder / f"{key.digest}.plan"
    file.write_bytes(file.read_bytes() + b"!")
    with pytest.raises(EngineError, match="not the plan that was built"):
        TensorRtEngine(bundle, target)


@pytest.mark.parametrize("which", ["file", "folder"])
def test_a_plan_that_others_could_have_written_is_not_loaded(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt, which: str
) -> None:
    key, _ = build(bundle, target)
    folder = store(target).folder
    (folder if which == "folder" else folder / f"{key.digest}.plan").chmod(0o777)
    with pytest.raises(EngineError, match="others may write it"):
        TensorRtEngine(bundle, target)


def test_a_plan_whose_description_is_broken_is_as_good_as_missing(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt
) -> None:
    key, _ = build(bundle, target)
    file = store(target).folder / f"{key.digest}.json"
    for text in ("", "[]", "{}", '{"schema": "streamguard.plan/1", "key": {}}'):
        file.write_text(text)
        with pytest.raises(EngineError, match="no plan"):
            TensorRtEngine(bundle, target)


def test_a_plan_that_tensorrt_does_not_load_is_an_error(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(bundle, target)
    monkeypatch.setattr(FakeTensorRt, "spoiled", True)
    with pytest.raises(EngineError, match="does not load the plan of tiny hop_fp32"):
        TensorRtEngine(bundle, target)


def test_a_plan_of_other_tensors_is_refused(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt
) -> None:
    hop, head = build(bundle, target)
    plans = store(target)
    plans.save(hop, plans.load(head))  # a plan under the wrong key
    with pytest.raises(EngineError, match=r"the plan of tiny hop_fp32 has tensors"):
        TensorRtEngine(bundle, target)


# Building.


def test_a_plan_has_one_profile_per_batch_size_and_the_options_of_the_target(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt
) -> None:
    build(bundle, target)
    config = fake_tensorrt.Builder.configs[0]
    assert [profile.shapes["samples"][0] for profile in config.profiles] == list(SIZES)
    assert config.workspace == 64 << 20
    assert config.builder_optimization_level == 3


def test_a_second_build_starts_from_the_timings_of_the_first(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt
) -> None:
    build(bundle, target)
    first, second = fake_tensorrt.Builder.configs
    assert first.cache is not None
    assert second.cache is not None
    assert (first.cache.data, second.cache.data) == (b"", b"+timed")


def test_timings_of_another_gpu_are_left_aside(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt, caplog: pytest.LogCaptureFixture
) -> None:
    plans = store(target)
    plans.write_timing_cache(plans.timing_cache("tensorrt 11.4.0.106", "9.0"), b"foreign")
    build(bundle, target)
    assert "timed anew" in caplog.text


def test_a_graph_that_tensorrt_does_not_take_is_named_with_the_node(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeTensorRt, "refuses", True)
    with pytest.raises(EngineError, match="tiny hop_fp32: node 7: no importer for Frobnicate"):
        build(bundle, target)
    assert store(target).stored() == ()


def test_the_log_of_tensorrt_goes_to_ours(
    trt: FakeTensorRt, caplog: pytest.LogCaptureFixture
) -> None:
    log = load_tensorrt("trt").log
    with caplog.at_level(logging.DEBUG):
        log.log(trt.ILogger.Severity.ERROR, "out of memory")
        log.log(trt.ILogger.Severity.VERBOSE, "a kernel")
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("ERROR", "out of memory")
    ]


def test_what_is_stored_says_what_it_was_built_for(
    bundle: Bundle, target: EngineTarget, trt: FakeTensorRt
) -> None:
    keys = build(bundle, target)
    assert {plan.key for plan in store(target).stored()} == set(keys)
    text = json.loads((store(target).folder / f"{keys[0].digest}.json").read_text())
    assert text["key"]["device"] == "NVIDIA Fake"
    assert text["key"]["shapes"] == "samples 8016, state_in 1 x 1,2,4"
