"""One GPU through the CUDA runtime API: a stream, fixed buffers, captured graphs.

``cuda-bindings`` (the extra ``cuda``) wraps the API in a few megabytes and is imported when a
device is opened. Every function of it returns its error code first.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from streamguard.errors import EngineError, MissingExtraError, StreamguardError

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamguard.inference.engine import Tensors
    from streamguard.inference.schema import GraphSpec, TensorSpec

FLOAT_BYTES = 4


class CudaDevice:
    """A GPU and one stream on it. Called by one thread at a time, after :meth:`use` in that one.

    Raises MissingExtraError without the bindings, EngineError where there is no such device.
    """

    def __init__(self, target: str, device_id: int) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as err:
            raise MissingExtraError(f"engine {target}", "cuda", str(err)) from err
        self.api: Any = runtime
        self.id = device_id
        self._target = target
        (count,) = self.call("cudaGetDeviceCount")
        if device_id >= count:
            raise EngineError(target, f"gpu.device_id: {device_id}: there are {count} device(s)")
        self.use()
        (properties,) = self.call("cudaGetDeviceProperties", device_id)
        self.name: str = properties.name.decode()
        self.capability = f"{properties.major}.{properties.minor}"
        """The architecture that kernels are compiled for, e.g. ``9.0``."""
        (stream,) = self.call("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking)
        self.stream = int(stream)

    def call(self, name: str, *arguments: object) -> tuple[Any, ...]:
        """What a function of the API returns behind its error code. Raises EngineError."""
        error, *results = getattr(self.api, name)(*arguments)
        if error != self.api.cudaError_t.cudaSuccess:
            raise EngineError(self._target, f"{name}: {error.name}")
        return tuple(results)

    def use(self) -> None:
        """Make it the device of the calling thread; models that a running daemon takes over are
        opened in another thread than they run in."""
        self.call("cudaSetDevice", self.id)

    def synchronize(self) -> None:
        """Wait for everything that was put on the stream."""
        self.call("cudaStreamSynchronize", self.stream)

    def capture(self, work: Callable[[], None]) -> int:
        """Record what ``work`` puts on the stream, without running it; for :meth:`replay`."""
        mode = self.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", self.stream, mode)
        try:
            work()
        except StreamguardError:
            # A stream in capture refuses everything else; what broke the capture is raised.
            self.api.cudaStreamEndCapture(self.stream)
            raise
        (graph,) = self.call("cudaStreamEndCapture", self.stream)
        (executable,) = self.call("cudaGraphInstantiate", graph, 0)
        self.call("cudaGraphDestroy", graph)
        return int(executable)

    def replay(self, executable: int) -> None:
        self.call("cudaGraphLaunch", executable, self.stream)

    def forget(self, executable: int) -> None:
        """Release a captured graph."""
        self.call("cudaGraphExecDestroy", executable)

    def close(self) -> None:
        self.call("cudaStreamDestroy", self.stream)


class Buffer:
    """One tensor: pinned host memory and as much device memory, for the largest batch.

    Smaller batches use the first rows, so an address never changes: captured graphs rely on it.
    """

    def __init__(self, device: CudaDevice, tensor: TensorSpec, rows: int) -> None:
        self._device = device
        self._row_bytes = FLOAT_BYTES * math.prod(tensor.row)
        nbytes = rows * self._row_bytes
        # Only from pinned memory does a copy run beside kernels, at the speed of the bus.
        (host,) = device.call("cudaHostAlloc", nbytes, device.api.cudaHostAllocDefault)
        self._host_address = int(host)
        try:
            (memory,) = device.call("cudaMalloc", nbytes)
        except EngineError:
            device.call("cudaFreeHost", self._host_address)
            raise
        self.address = int(memory)
        raw = (ctypes.c_float * (nbytes // FLOAT_BYTES)).from_address(self._host_address)
        self.host: npt.NDArray[np.float32] = np.ctypeslib.as_array(raw).reshape(rows, *tensor.row)

    def upload(self, rows: int) -> None:
        kind = self._device.api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(self.address, self._host_address, rows, kind)

    def download(self, rows: int) -> None:
        kind = self._device.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(self._host_address, self.address, rows, kind)

    def free(self) -> None:
        self._device.call("cudaFree", self.address)
        self._device.call("cudaFreeHost", self._host_address)

    def _copy(self, to: int, source: int, rows: int, kind: object) -> None:
        stream = self._device.stream
        self._device.call("cudaMemcpyAsync", to, source, rows * self._row_bytes, kind, stream)


class GraphBuffers:
    """All inputs and outputs of one graph: every buffer, or none where memory does not suffice."""

    def __init__(self, device: CudaDevice, spec: GraphSpec, rows: int) -> None:
        self.inputs: dict[str, Buffer] = {}
        self.outputs: dict[str, Buffer] = {}
        try:
            for tensor in spec.inputs:
                self.inputs[tensor.name] = Buffer(device, tensor, rows)
            for tensor in spec.outputs:
                self.outputs[tensor.name] = Buffer(device, tensor, rows)
        except EngineError:
            self.free()
            raise

    def fill(self, inputs: Tensors, size: int) -> None:
        """Put rows, and zeros behind them up to ``size``, where :meth:`upload` takes them."""
        for name, x in inputs.items():
            host = self.inputs[name].host
            host[: len(x)] = x
            host[len(x) : size] = 0.0

    def upload(self, size: int) -> None:
        for buffer in self.inputs.values():
            buffer.upload(size)

    def download(self, size: int) -> None:
        for buffer in self.outputs.values():
            buffer.download(size)

    def results(self, size: int) -> Tensors:
        """Copies: the pinned memory is overwritten by the next batch."""
        return {name: buffer.host[:size].copy() for name, buffer in self.outputs.items()}

    def free(self) -> None:
        for buffer in (*self.inputs.values(), *self.outputs.values()):
            buffer.free()


def shapes(tensors: Sequence[TensorSpec], size: int) -> dict[str, tuple[int, ...]]:
    """Name to full shape, for a batch of ``size``."""
    return {tensor.name: (size, *tensor.row) for tensor in tensors}
