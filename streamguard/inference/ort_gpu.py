"""onnxruntime on a GPU: provider options, and sessions bound to fixed device buffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from streamguard.inference.cuda import CudaDevice, GraphBuffers, shapes
from streamguard.inference.engine import EngineTarget, GpuOptions
from streamguard.inference.plans import PlanStore, plan_key

if TYPE_CHECKING:
    from streamguard.inference.bundle import Bundle
    from streamguard.inference.engine import Tensors
    from streamguard.inference.schema import GraphSpec

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
HEAVY = frozenset({"Conv", "Gemm", "LSTM", "MatMul"})
"""Where the arithmetic is: on another provider than the asked one these would be a fallback."""
WARM_UP_RUNS = 3
"""The CUDA provider captures a graph only after ordinary runs of the same shape."""

Providers = list[tuple[str, dict[str, str]]]


def provider_options(
    bundle: Bundle, graph: str, target: EngineTarget, gpu: GpuOptions, device: CudaDevice
) -> Providers:
    """The providers of a session, in order, with their options.

    https://onnxruntime.ai/docs/execution-providers (CUDA, TensorRT). Everything runs on our own
    stream, between our own copies.
    """
    stream = {"device_id": str(device.id), "user_compute_stream": str(device.stream)}
    cuda = {
        **stream,
        # fp32 means fp32: the front end takes logarithms of what tf32 would have rounded.
        "use_tf32": "0",
        # Fixed shapes: an arena that doubles would keep what is never asked for again.
        "arena_extend_strategy": "kSameAsRequested",
    }
    if gpu.cuda_graphs:
        cuda["enable_cuda_graph"] = "1"
    if gpu.memory_mib is not None:
        cuda["gpu_mem_limit"] = str(gpu.memory_mib << 20)
    if target.provider == CUDA:
        return [(CUDA, cuda)]
    return [
        (TENSORRT, stream | _tensorrt_options(bundle, graph, target, gpu, device)),
        (CUDA, cuda),
    ]


def _tensorrt_options(
    bundle: Bundle, graph: str, target: EngineTarget, gpu: GpuOptions, device: CudaDevice
) -> dict[str, str]:
    """Precision is in the graph: with neither fp16 nor int8 enabled the network is strongly typed.

    The provider keys its cache by graph and architecture only, so each of our keys gets a folder.
    """
    import onnxruntime

    spec = bundle.manifest.graphs[graph]
    store = PlanStore(target.name, gpu.plan_dir)
    store.prepare()
    runtime = f"onnxruntime {onnxruntime.__version__}"
    folder = store.folder / f"ort-{plan_key(bundle, graph, target, gpu, device, runtime).digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    sizes = target.batch_sizes
    options = {
        "trt_builder_optimization_level": str(gpu.optimization_level),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_profile_min_shapes": _profile(spec, sizes[0]),
        "trt_profile_opt_shapes": _profile(spec, sizes[-1]),
        "trt_profile_max_shapes": _profile(spec, sizes[-1]),
    }
    if gpu.workspace_mib is not None:
        options["trt_max_workspace_size"] = str(gpu.workspace_mib << 20)
    if gpu.timing_cache:
        options["trt_timing_cache_enable"] = "1"
        options["trt_timing_cache_path"] = str(store.folder)
    return options


def _profile(spec: GraphSpec, size: int) -> str:
    """As the provider wants it: ``samples:8x8108,state_in:8x62``."""
    every = shapes(spec.inputs, size).items()
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in every)


def strays(session: Any, provider: str) -> Iterator[str]:
    """Heavy operators that the session put on another provider, which it does without a word.

    Nothing where this onnxruntime cannot tell (before 1.24).
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return
    for part in session.get_provider_graph_assignment_info():
        if part.ep_name != provider:
            for node in part.get_nodes():
                if node.op_type in HEAVY:
                    yield f"{node.op_type} {node.name} on {part.ep_name}"


class BoundSession:
    """A session that reads and writes fixed device buffers; one binding per batch size."""

    def __init__(
        self,
        session: Any,
        spec: GraphSpec,
        device: CudaDevice,
        sizes: tuple[int, ...],
        *,
        cuda_graphs: bool,
    ) -> None:
        import onnxruntime

        self._session = session
        self._device = device
        self._buffers = GraphBuffers(device, spec, sizes[-1])
        self._bindings: dict[int, Any] = {}
        self._options: dict[int, Any] = {}
        for number, size in enumerate(sizes, start=1):
            self._bindings[size] = self._bind(spec, size)
            options = self._options[size] = onnxruntime.RunOptions()
            if cuda_graphs:
                # A captured graph replays the shape it was captured with: each size has its own.
                options.add_run_config_entry("gpu_graph_id", str(number))

    def run(self, inputs: Tensors, size: int) -> Tensors:
        self._device.use()
        self._buffers.fill(inputs, size)
        self._buffers.upload(size)
        self._session.run_with_iobinding(self._bindings[size], self._options[size])
        self._buffers.download(size)
        self._device.synchronize()
        return self._buffers.results(size)

    def close(self) -> None:
        self._bindings.clear()
        self._buffers.free()

    def _bind(self, spec: GraphSpec, size: int) -> Any:
        binding = self._session.io_binding()
        where: Mapping[str, Any] = {
            "device_type": "cuda",
            "device_id": self._device.id,
            "element_type": np.float32,
        }
        for name, shape in shapes(spec.inputs, size).items():
            at = self._buffers.inputs[name].address
            binding.bind_input(name, shape=shape, buffer_ptr=at, **where)
        for name, shape in shapes(spec.outputs, size).items():
            at = self._buffers.outputs[name].address
            binding.bind_output(name, shape=shape, buffer_ptr=at, **where)
        return binding
