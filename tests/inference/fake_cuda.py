"""A declared fake of ``cuda.bindings.runtime``: the "device" is host memory, a stream is a list.

Names, argument order and the leading error code are those of cuda-bindings 13.5 (its docstrings).
What it shows: that sizes, addresses, copies and captures fit together. What it cannot show: that
any of it runs on a GPU.
"""

from __future__ import annotations

import ctypes
import enum
import itertools
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest


class cudaError_t(enum.IntEnum):  # the name of the real one
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorNoDevice = 100
    cudaErrorStreamCaptureUnsupported = 900


class cudaMemcpyKind(enum.IntEnum):  # the name of the real one
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(enum.IntEnum):  # the name of the real one
    cudaStreamCaptureModeThreadLocal = 1


@dataclass(frozen=True)
class Properties:
    name: bytes
    major: int
    minor: int


class FakeCuda(ModuleType):
    """The module itself; ``name``, ``capability`` and ``devices`` may be changed by a test."""

    cudaStreamNonBlocking = 1
    cudaHostAllocDefault = 0

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.cudaError_t = cudaError_t
        self.cudaMemcpyKind = cudaMemcpyKind
        self.cudaStreamCaptureMode = cudaStreamCaptureMode
        self.name = b"NVIDIA Fake"
        self.capability = (9, 0)
        self.devices = 1
        self.memory: dict[int, Any] = {}
        self.streams: set[int] = set()
        self._device_of: dict[int, int] = {}
        self._current = threading.local()
        """The device of each thread; 0 where it has set none, as on a real one."""
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.capturing: list[Callable[[], None]] | None = None
        self.fails: dict[str, cudaError_t] = {}
        self.launches = 0
        self.mallocs = 0
        self.most_mallocs = 1_000_000
        """Calls of ``cudaMalloc`` after which the device is full."""
        self._handles = itertools.count(1)

    def put(self, work: Callable[[], None]) -> None:
        """What a stream does with a kernel or a copy: now, or in the graph under capture."""
        if self.capturing is None:
            work()
        else:
            self.capturing.append(work)

    def _answer(self, name: str, *results: Any) -> tuple[Any, ...]:
        error = self.fails.get(name, cudaError_t.cudaSuccess)
        return (error, *(results if not error else (None for _ in results)))

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return self._answer("cudaGetDeviceCount", self.devices)

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        assert 0 <= device < self.devices
        self._current.device = device
        return self._answer("cudaSetDevice")

    def check_device(self, stream: int) -> None:
        """Kernels and graphs run on a stream of the thread's own device only."""
        assert stream in self.streams
        assert self._device_of[stream] == getattr(self._current, "device", 0)

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        return self._answer("cudaGetDeviceProperties", Properties(self.name, *self.capability))

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        stream = next(self._handles)
        self.streams.add(stream)
        self._device_of[stream] = getattr(self._current, "device", 0)
        return self._answer("cudaStreamCreateWithFlags", stream)

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        self.streams.remove(stream)
        return self._answer("cudaStreamDestroy")

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        assert stream in self.streams
        if self.capturing is not None:
            return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
        return self._answer("cudaStreamSynchronize")

    def _allocate(self, size: int) -> int:
        block = (ctypes.c_char * size)()
        ctypes.memset(block, 0xFF, size)  # NaN: what nobody wrote must not look like an answer
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        self.mallocs += 1
        if self.mallocs > self.most_mallocs:
            return (cudaError_t.cudaErrorMemoryAllocation, None)
        return self._answer("cudaMalloc", self._allocate(size))

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        return self._answer("cudaHostAlloc", self._allocate(size))

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        del self.memory[address]
        return self._answer("cudaFree")

    def cudaFreeHost(self, address: int) -> tuple[Any, ...]:
        del self.memory[address]
        return self._answer("cudaFreeHost")

    def cudaMemcpyAsync(
        self, to: int, source: int, size: int, kind: cudaMemcpyKind, stream: int
    ) -> tuple[Any, ...]:
        self.check_device(stream)
        assert isinstance(kind, cudaMemcpyKind)
        for address in (to, source):
            assert size <= ctypes.sizeof(self.memory[address])
        self.put(lambda: ctypes.memmove(to, source, size))  # type: ignore[arg-type]  # what it returns is ignored
        return self._answer("cudaMemcpyAsync")

    def cudaStreamBeginCapture(self, stream: int, mode: cudaStreamCaptureMode) -> tuple[Any, ...]:
        assert self.capturing is None
        self.capturing = []
        return self._answer("cudaStreamBeginCapture")

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        assert self.capturing is not None
        graph = next(self._handles)
        self.graphs[graph], self.capturing = self.capturing, None
        return self._answer("cudaStreamEndCapture", graph)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:
        executable = next(self._handles)
        self.graphs[executable] = self.graphs[graph]
        return self._answer("cudaGraphInstantiate", executable)

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        del self.graphs[graph]
        return self._answer("cudaGraphDestroy")

    def cudaGraphExecDestroy(self, executable: int) -> tuple[Any, ...]:
        del self.graphs[executable]
        return self._answer("cudaGraphExecDestroy")

    def cudaGraphLaunch(self, executable: int, stream: int) -> tuple[Any, ...]:
        self.check_device(stream)
        self.launches += 1
        for work in self.graphs[executable]:
            work()
        return self._answer("cudaGraphLaunch")


def install(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """Put the fake where ``from cuda.bindings import runtime`` finds it."""
    fake = FakeCuda()
    bindings = ModuleType("cuda.bindings")
    bindings.runtime = fake  # type: ignore[attr-defined]  # a module is an open bag
    package = ModuleType("cuda")
    package.bindings = bindings  # type: ignore[attr-defined]  # same
    for module in (package, bindings, fake):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return fake
