"""The GPU benchmark's arithmetic, and all of it on the CPU in tiny sizes: no claim about a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.inference import onnx_makers as makers
from tests.inference.onnx_makers import _model, _value, onnx
from tools import bench_gpu
from tools.bench_gpu import Ceilings, bench, ceilings, operations

pytestmark = pytest.mark.train


def test_operations_are_counted_by_hand() -> None:
    nodes = [
        onnx.helper.make_node("Unsqueeze", ["samples", "one"], ["channels"]),
        onnx.helper.make_node("Conv", ["channels", "kernel"], ["frames"], strides=[2]),
        onnx.helper.make_node("Transpose", ["frames"], ["turned"], perm=[0, 2, 1]),
        onnx.helper.make_node("MatMul", ["turned", "mix"], ["sums"]),
    ]
    weights = {
        "kernel": np.ones((4, 1, 3), np.float32),
        "mix": np.ones((1, 4, 5), np.float32),
        "one": np.array([1]),
    }
    graph = _model(nodes, [_value("samples", 9)], [_value("sums", 4, 5)], **weights)
    # 4 frames of 4 channels, 3 taps each; then 4 frames of 5, 4 terms each.
    assert operations(graph) == 2 * 4 * 4 * 3 + 2 * 4 * 5 * 4
    assert operations(graph, batch=3) == 3 * operations(graph)


def test_an_lstm_is_counted_by_its_gates() -> None:
    lstm = onnx.helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=8)
    small = onnx.helper.make_graph(
        [lstm],
        "lstm",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 5, 6])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 5, 8])],
        [
            onnx.numpy_helper.from_array(np.ones((1, 32, 6), np.float32), "w"),
            onnx.numpy_helper.from_array(np.ones((1, 32, 8), np.float32), "r"),
        ],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    data = onnx.helper.make_model(small, opset_imports=opset).SerializeToString()
    assert operations(data) == 2 * 1 * 5 * 4 * 8 * (6 + 8)


def test_legs_are_hops_in_half_a_second_and_the_share_is_of_the_measured_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench_gpu, "measure", lambda device, run, repeats: 0.010)
    hop, head = makers.hop_graph(), makers.head_graph()
    (row,) = bench(hop, head, "cpu", [200], 1, Ceilings(copy_gb_s=1.0, matrix_tflop_s=0.5))
    assert row.legs == 10_000  # 200 hops in 10 ms are 20,000 a second, two for each leg
    work = operations(hop) + operations(head)
    assert row.tflop_s == pytest.approx(20_000 * work / 1e12)
    assert row.share_of_matrix_rate == pytest.approx(row.tflop_s / 0.5)
    assert row.feed_gb_s == pytest.approx(20_000 * 8016 * 4 / 1e9)


def test_ceilings_count_bytes_read_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "measure", lambda device, run, repeats: 0.5)
    top = ceilings("cpu", copy_bytes=1_000_000, matrix=100, repeats=1)
    assert top.copy_gb_s == pytest.approx(2 * 1e6 / 0.5 / 1e9)
    assert top.matrix_tflop_s == pytest.approx(2 * 100**3 / 0.5 / 1e12)


def test_the_stage_runs_the_hop_and_its_head_on_changing_inputs() -> None:
    stage = bench_gpu.Stage(makers.hop_graph(), makers.head_graph(), 2, "cpu")
    first, second = stage.outputs(0), stage.outputs(1)
    assert first["logit"].shape == (2, 1)
    assert not torch.equal(first["logit"], second["logit"])


def test_a_tiny_run_on_the_cpu_prints_ceilings_rows_and_what_feeds_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = (makers.hop_graph(), makers.head_graph(), "tiny")
    monkeypatch.setattr(bench_gpu, "_load", lambda bundle, precision: tiny)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    out = tmp_path / "out.json"
    arguments = ["--device", "cpu", "--batch", "1", "2", "--repeats", "1", "--copy-bytes", "4096"]
    assert bench_gpu.main([*arguments, "--matrix", "8", "--json", str(out)]) == 0
    text = capsys.readouterr().out
    for part in ("ceilings: copy", "of the matrix rate", "of the goal of 100000", "to feed"):
        assert part in text
    report = json.loads(out.read_text())
    assert [row["batch"] for row in report["rows"]] == [1, 2]
    assert report["flop_per_hop"] > 0


def test_without_a_gpu_the_claim_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        bench_gpu.main([])
    assert ended.value.code == 2
    assert "torch sees no CUDA device" in capsys.readouterr().err
