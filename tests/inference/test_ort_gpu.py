"""onnxruntime's CUDA and TensorRT providers, around declared fakes: nothing here runs on a GPU."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from streamguard.errors import EngineError, MissingExtraError
from streamguard.inference.bundle import Bundle
from streamguard.inference.engine import EngineTarget, GpuOptions
from streamguard.inference.ort import OrtEngine
from streamguard.inference.ort_gpu import CUDA, TENSORRT
from tests.inference import fake_cuda, fake_ort_gpu
from tests.inference.fake_cuda import FakeCuda
from tests.inference.fake_ort_gpu import FakeOrt, Node, Part
from tests.inference.test_ort import detector, samples

SIZES = (1, 2, 4)
GPU = GpuOptions(cuda_graphs=True)
TARGET = EngineTarget("cuda", "onnxruntime", CUDA, "fp32", 1, SIZES, gpu=GPU)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return fake_cuda.install(monkeypatch)


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> FakeOrt:
    return fake_ort_gpu.install(monkeypatch, cuda, CUDA)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return detector(tmp_path / "bundle", state=True)


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_bound_buffers_give_what_a_plain_session_gives(bundle: Bundle, rows: int) -> None:
    given = {"samples": samples(rows), "state_in": np.arange(rows, dtype=np.float32)[:, None]}
    plain = dataclasses.replace(TARGET, provider="CPUExecutionProvider", gpu=None)
    oracle = OrtEngine(bundle, plain)
    theirs = oracle.run("hop_fp32", given)
    oracle.close()
    with pytest.MonkeyPatch.context() as monkeypatch:
        fake_ort_gpu.install(monkeypatch, fake_cuda.install(monkeypatch), CUDA)
        engine = OrtEngine(bundle, TARGET)
        assert (engine.info.requested_provider, engine.info.provider) == (CUDA, CUDA)
        ours = engine.run("hop_fp32", given)
        kept = {name: x.copy() for name, x in ours.items()}
        engine.run("hop_fp32", given | {"samples": samples(rows)})
        engine.close()
    for name in theirs:
        np.testing.assert_allclose(kept[name], theirs[name], rtol=1e-5, atol=1e-3)
        np.testing.assert_array_equal(ours[name], kept[name])  # the next batch left them alone


def test_every_batch_size_has_its_own_captured_graph(bundle: Bundle, ort: FakeOrt) -> None:
    engine = OrtEngine(bundle, TARGET)
    engine.warm_up()
    engine.warm_up()
    for session in ort.sessions:
        assert set(session.graph_ids) == {"1", "2", "3"}
        assert session.graph_ids[:3] == ["1"] * 3  # it captures only after ordinary runs
    engine.close()


def test_everything_runs_on_one_stream_in_true_fp32(bundle: Bundle, ort: FakeOrt) -> None:
    engine = OrtEngine(
        bundle, dataclasses.replace(TARGET, gpu=GpuOptions(cuda_graphs=True, memory_mib=512))
    )
    ((name, options),) = ort.sessions[0].providers
    assert name == CUDA
    assert int(options["user_compute_stream"]) in ort.cuda.streams
    assert options["use_tf32"] == "0"
    assert options["gpu_mem_limit"] == str(512 << 20)
    engine.close()


def test_without_cuda_graphs_none_is_asked_for(bundle: Bundle, ort: FakeOrt) -> None:
    ort.cuda_graphs = False
    engine = OrtEngine(bundle, dataclasses.replace(TARGET, gpu=GpuOptions()))
    assert "enable_cuda_graph" not in ort.sessions[0].providers[0][1]
    engine.warm_up()
    assert set(ort.sessions[0].graph_ids) == {""}
    engine.close()


def test_closing_gives_everything_back(bundle: Bundle, ort: FakeOrt) -> None:
    engine = OrtEngine(bundle, TARGET)
    engine.warm_up()
    assert ort.cuda.memory
    engine.close()
    assert (ort.cuda.memory, ort.cuda.streams) == ({}, set())


def test_an_engine_that_was_opened_in_another_thread_runs_on_its_own_device(
    bundle: Bundle, ort: FakeOrt
) -> None:
    """As after a reload: the daemon opens new models beside the running ones."""
    ort.cuda.devices = 2
    target = dataclasses.replace(TARGET, gpu=dataclasses.replace(GPU, device_id=1))
    with ThreadPoolExecutor(1) as elsewhere:
        engine = elsewhere.submit(OrtEngine, bundle, target).result()
    given = {"samples": samples(2), "state_in": np.zeros((2, 1), np.float32)}
    assert np.isfinite(engine.run("hop_fp32", given)["sums"]).all()
    engine.close()


def test_a_session_that_got_the_cpu_is_an_error_and_leaves_nothing(
    bundle: Bundle, ort: FakeOrt, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA])
    ort.effective = ["CPUExecutionProvider"]
    with pytest.raises(EngineError, match=f"asked for {CUDA}, got CPUExecutionProvider"):
        OrtEngine(bundle, TARGET)
    assert (ort.cuda.memory, ort.cuda.streams) == ({}, set())


def test_a_convolution_that_was_put_on_the_cpu_is_an_error(bundle: Bundle, ort: FakeOrt) -> None:
    ort.assigned = [
        Part(CUDA, (Node("Gemm", "g"),)),
        Part("CPUExecutionProvider", (Node("Shape", "s"), Node("Conv", "c"))),
    ]
    with pytest.raises(EngineError, match=r"not everything runs on CUDA.*: Conv c on CPU"):
        OrtEngine(bundle, TARGET)


def test_sizes_that_are_reckoned_on_the_host_are_no_fallback(bundle: Bundle, ort: FakeOrt) -> None:
    ort.assigned = [Part("CPUExecutionProvider", (Node("Shape", "s"),))]
    OrtEngine(bundle, TARGET).close()


def test_a_fallback_that_is_allowed_runs_without_a_device(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OrtEngine(bundle, dataclasses.replace(TARGET, allow_fallback=True))
    assert engine.info.provider == "CPUExecutionProvider"
    given = {"samples": samples(1), "state_in": np.zeros((1, 1), np.float32)}
    assert np.isfinite(engine.run("hop_fp32", given)["sums"]).all()
    engine.close()


def test_without_the_cuda_bindings_the_extra_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_ort_gpu.install(monkeypatch, FakeCuda(), CUDA)
    with pytest.raises(MissingExtraError, match=r"streamguard\[cuda\]"):
        OrtEngine(bundle, TARGET)


def test_the_tensorrt_provider_gets_profiles_and_a_folder_of_its_own(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ort = fake_ort_gpu.install(monkeypatch, fake_cuda.install(monkeypatch), TENSORRT, CUDA)
    ort.cuda_graphs = False
    gpu = GpuOptions(workspace_mib=256, optimization_level=4, plan_dir=str(tmp_path / "plans"))
    target = dataclasses.replace(TARGET, provider=TENSORRT, gpu=gpu)
    engine = OrtEngine(bundle, target)
    (first, options), (second, _) = ort.sessions[0].providers
    assert (first, second) == (TENSORRT, CUDA)
    assert options["trt_profile_min_shapes"] == "samples:1x8016,state_in:1x1"
    assert options["trt_profile_max_shapes"] == "samples:4x8016,state_in:4x1"
    assert options["trt_max_workspace_size"] == str(256 << 20)
    assert options["trt_builder_optimization_level"] == "4"
    assert options["trt_timing_cache_path"] == str(tmp_path / "plans")
    # Either would make the network weakly typed, and the front end perhaps fp16.
    assert not {"trt_fp16_enable", "trt_int8_enable"} & options.keys()
    folders = {session.providers[0][1]["trt_engine_cache_path"] for session in ort.sessions}
    assert len(folders) == len(ort.sessions) == 2
    assert all(Path(folder).parent == tmp_path / "plans" for folder in folders)
    engine.close()
