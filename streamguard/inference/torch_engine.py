"""The PyTorch engine: a bundle's own graphs on CUDA, captured per batch size; or on the CPU."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamguard.errors import BundleError, EngineError, MissingExtraError
from streamguard.inference.engine import EngineInfo, EngineTarget, GpuOptions
from streamguard.inference.fixed import FixedBatchEngine, padded
from streamguard.inference.torch_graph import EXTRA, TorchGraph, UnknownOperatorError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from streamguard.inference.bundle import Bundle
    from streamguard.inference.engine import Tensors
    from streamguard.inference.schema import GraphSpec


@dataclass(slots=True)
class _Slot:
    """Fixed tensors of one graph in one batch size. Owned by the thread of its engine."""

    host: dict[str, Tensor]
    """Inputs in pinned memory."""
    device: dict[str, Tensor]
    answers: dict[str, Tensor] = field(default_factory=dict)
    """Outputs on the device, written by every replay."""
    captured: torch.cuda.CUDAGraph | None = None


class TorchEngine(FixedBatchEngine):
    """Runs the graphs of a bundle through PyTorch on ``cuda`` or ``cpu``. Stateless.

    Owned and called by one thread. Raises MissingExtraError without torch and onnx, EngineError
    where there is no such device, BundleError for an operator that is not translated.
    """

    def __init__(self, bundle: Bundle, target: EngineTarget) -> None:
        try:
            import torch
        except ImportError as err:
            raise MissingExtraError(f"engine {target.name}", EXTRA, str(err)) from err
        # Before the bundle is looked at: without its device a target is of no use.
        self._torch = torch
        self._target = target
        self._gpu = target.gpu or GpuOptions()
        self._on = self._device(target.provider)
        super().__init__(bundle, target)
        self._graphs: dict[str, TorchGraph] = {}
        for name in self._specs:
            try:
                self._graphs[name] = TorchGraph(
                    bundle.read_graph(name), self._on, channels_last=self._gpu.channels_last
                )
            except UnknownOperatorError as err:
                file = str(bundle.folder / self._specs[name].file)
                raise BundleError(file, f"graphs.{name}: {err}") from err
        self._slots: dict[tuple[str, int], _Slot] = {}
        self._stream = None
        if self._on != "cpu":
            self._stream = torch.cuda.Stream(self._on)  # type: ignore[no-untyped-call]  # torch
        self._info = self._effective({self._on.partition(":")[0]}, f"torch {torch.__version__}")

    @property
    def info(self) -> EngineInfo:
        return self._info

    def close(self) -> None:
        """Release graphs and memory; the engine cannot run afterwards."""
        self._slots.clear()
        self._graphs.clear()
        self._specs.clear()

    def _device(self, provider: str) -> str:
        if provider == "cpu":
            # One interpreter, one number of threads: whoever runs torch here wants this one.
            self._torch.set_num_threads(self._target.threads)
            return "cpu"
        if not self._torch.cuda.is_available():
            self._fallback("torch sees no CUDA device")
            return "cpu"
        count = self._torch.cuda.device_count()
        if self._gpu.device_id >= count:
            raise EngineError(
                self._target.name, f"gpu.device_id: {self._gpu.device_id}: there are {count}"
            )
        return f"cuda:{self._gpu.device_id}"

    def _execute(self, graph: str, inputs: Tensors, size: int) -> Tensors:
        if self._stream is None:
            tensors = {n: self._torch.from_numpy(x) for n, x in padded(inputs, size).items()}
            return {n: x.float().numpy() for n, x in self._graphs[graph](tensors).items()}
        slot = self._slots.get((graph, size))
        if slot is None:
            slot = self._slots[graph, size] = self._slot(self._specs[graph], size)
        for name, x in inputs.items():
            slot.host[name][: len(x)] = self._torch.from_numpy(x)
            slot.host[name][len(x) :] = 0.0
        with self._torch.cuda.stream(self._stream), self._exact():
            for name, tensor in slot.device.items():
                tensor.copy_(slot.host[name], non_blocking=True)
            self._run(graph, slot)
            answers = {n: x.float().to("cpu", non_blocking=True) for n, x in slot.answers.items()}
            self._stream.synchronize()
        return {name: x.numpy() for name, x in answers.items()}

    def _run(self, graph: str, slot: _Slot) -> None:
        if slot.captured is not None:
            slot.captured.replay()
            return
        slot.answers = self._graphs[graph](slot.device)
        if not self._gpu.cuda_graphs:
            return
        # That run has settled what must not happen in a capture: kernels loaded, memory grown.
        assert self._stream is not None
        self._stream.synchronize()
        captured = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(captured, stream=self._stream):
            slot.answers = self._graphs[graph](slot.device)
        slot.captured = captured
        captured.replay()

    def _slot(self, spec: GraphSpec, size: int) -> _Slot:
        torch = self._torch
        shapes = {tensor.name: (size, *tensor.row) for tensor in spec.inputs}
        return _Slot(
            host={n: torch.zeros(shape, pin_memory=True) for n, shape in shapes.items()},
            device={n: torch.zeros(shape, device=self._on) for n, shape in shapes.items()},
        )

    def _exact(self) -> Any:
        """fp32 means fp32: the front end takes logarithms of what tf32 would have rounded."""
        return self._torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
