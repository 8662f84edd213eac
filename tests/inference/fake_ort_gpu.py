"""A declared fake of onnxruntime on a GPU: a session on the CPU that is bound to addresses.

It stands where ``onnxruntime.InferenceSession`` stands, records what it was opened with, and reads
and writes through the fake CUDA's memory. It can't show that the CUDA provider takes these options.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.inference.fake_cuda import FakeCuda

_REAL = onnxruntime.InferenceSession


@dataclass
class Binding:
    """Names to (shape, address)."""

    inputs: dict[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    outputs: dict[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any,
        shape: tuple[int, ...], buffer_ptr: int,
    ) -> None:  # fmt: skip
        assert (device_type, element_type) == ("cuda", np.float32)
        self.inputs[name] = (shape, buffer_ptr)

    def bind_output(
        self, name: str, device_type: str, device_id: int, element_type: Any,
        shape: tuple[int, ...], buffer_ptr: int,
    ) -> None:  # fmt: skip
        assert (device_type, element_type) == ("cuda", np.float32)
        self.outputs[name] = (shape, buffer_ptr)


@dataclass(frozen=True)
class Node:
    op_type: str
    name: str


@dataclass(frozen=True)
class Part:
    ep_name: str
    nodes: tuple[Node, ...]

    def get_nodes(self) -> tuple[Node, ...]:
        return self.nodes


class FakeGpuSession:
    """What a GPU build of onnxruntime would open."""

    def __init__(
        self, fake: FakeOrt, graph: bytes, options: onnxruntime.SessionOptions, providers: list[Any]
    ) -> None:
        self._fake = fake
        self.options = options
        self.providers = providers
        self.graph_ids: list[str] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._session = _REAL(graph, providers=["CPUExecutionProvider"])

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def get_outputs(self) -> Any:
        return self._session.get_outputs()

    def get_providers(self) -> list[str]:
        return self._fake.effective

    def get_provider_graph_assignment_info(self) -> list[Part]:
        return self._fake.assigned

    def disable_fallback(self) -> None:
        pass

    def io_binding(self) -> Binding:
        return Binding()

    def run_with_iobinding(self, binding: Binding, options: onnxruntime.RunOptions) -> None:
        number = options.get_run_config_entry("gpu_graph_id") if self._fake.cuda_graphs else ""
        self.graph_ids.append(number)
        shape = binding.inputs[next(iter(binding.inputs))][0]
        # The real one would replay the old shape without a word.
        assert not number or self.shapes.setdefault(number, shape) == shape
        inputs = {name: _array(*where) for name, where in binding.inputs.items()}
        names = list(binding.outputs)
        for name, x in zip(names, self._session.run(names, inputs), strict=True):
            _array(*binding.outputs[name])[...] = x


def _array(shape: tuple[int, ...], address: int) -> Any:
    raw = (ctypes.c_float * math.prod(shape)).from_address(address)
    return np.ctypeslib.as_array(raw).reshape(shape)


@dataclass
class FakeOrt:
    """What a test sets and sees."""

    cuda: FakeCuda
    cuda_graphs: bool = True
    effective: list[str] = field(default_factory=list)
    assigned: list[Part] = field(default_factory=list)
    sessions: list[FakeGpuSession] = field(default_factory=list)

    def open(
        self, graph: bytes, options: onnxruntime.SessionOptions, providers: list[Any]
    ) -> FakeGpuSession:
        self.sessions.append(FakeGpuSession(self, graph, options, providers))
        return self.sessions[-1]


def install(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda, *effective: str) -> FakeOrt:
    fake = FakeOrt(cuda, effective=[*effective, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: fake.effective)
    monkeypatch.setattr(onnxruntime, "InferenceSession", fake.open)
    return fake
