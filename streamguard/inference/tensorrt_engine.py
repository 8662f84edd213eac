"""The native TensorRT engine: plans that `streamguard engine build` has made, run on one GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamguard.errors import EngineError
from streamguard.inference.cuda import CudaDevice, GraphBuffers, shapes
from streamguard.inference.engine import EngineInfo, EngineTarget, GpuOptions
from streamguard.inference.fixed import FixedBatchEngine
from streamguard.inference.plans import PlanStore, plan_key
from streamguard.inference.tensorrt_api import TensorRt, load_tensorrt

if TYPE_CHECKING:
    import tensorrt as trt

    from streamguard.inference.bundle import Bundle
    from streamguard.inference.engine import Tensors
    from streamguard.inference.schema import GraphSpec, TensorSpec


def runtime_name(api: TensorRt) -> str:
    """As it stands in plan keys and in the status."""
    return f"tensorrt {api.version}"


@dataclass(slots=True)
class _Work:
    """What runs one graph in one batch size. Owned by the thread of its engine."""

    context: trt.IExecutionContext
    runs: int = 0
    captured: int | None = None
    """Handle of the CUDA graph."""


class TensorRtEngine(FixedBatchEngine):
    """Executes plans with their inputs and outputs at fixed addresses. Stateless.

    One execution context per graph and batch size, each on the optimisation profile of that size.
    Raises MissingExtraError, and EngineError where no plan fits this GPU and this version: a plan
    is never built at start-up, because that takes minutes.
    """

    def __init__(self, bundle: Bundle, target: EngineTarget) -> None:
        # Before the bundle is looked at: without its runtime a target is of no use.
        self._api = load_tensorrt(target.name)
        super().__init__(bundle, target)
        self._gpu = target.gpu or GpuOptions()
        self._device = CudaDevice(target.name, self._gpu.device_id)
        self._buffers: dict[str, GraphBuffers] = {}
        self._work: dict[tuple[str, int], _Work] = {}
        if self._gpu.cuda_graphs:
            self.warm_up_runs = 3  # one to settle, one to capture, one to replay
        try:
            import tensorrt as trt

            runtime = trt.Runtime(self._api.log)
            for name, spec in self._specs.items():
                self._open(runtime, name, spec)
        except BaseException:
            self.close()
            raise
        self._info = self._effective({"tensorrt"}, runtime_name(self._api))

    @property
    def info(self) -> EngineInfo:
        return self._info

    def close(self) -> None:
        """Release contexts, graphs and memory; the engine cannot run afterwards."""
        self._device.use()
        self._device.synchronize()
        for work in self._work.values():
            if work.captured is not None:
                self._device.forget(work.captured)
        self._work.clear()
        for buffers in self._buffers.values():
            buffers.free()
        self._buffers.clear()
        self._specs.clear()
        self._device.close()

    def _open(self, runtime: trt.Runtime, name: str, spec: GraphSpec) -> None:
        key = plan_key(
            self._bundle, name, self._target, self._gpu, self._device, runtime_name(self._api)
        )
        plan = PlanStore(self._target.name, self._gpu.plan_dir).load(key)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(
                self._target.name,
                f"TensorRT {self._api.version} does not load the plan of {key.bundle} {name}, "
                f"though it was built for it: streamguard engine build --target "
                f"{self._target.name} --bundle {key.bundle}",
            )
        self._check(engine, name, spec)
        sizes = self._target.batch_sizes
        buffers = self._buffers[name] = GraphBuffers(self._device, spec, sizes[-1])
        for profile, size in enumerate(sizes):
            context = self._api.need(engine.create_execution_context(), "no execution context")
            self._set_up(context, profile, size, spec, buffers)
            self._work[name, size] = _Work(context)

    def _check(self, engine: trt.ICudaEngine, name: str, spec: GraphSpec) -> None:
        """A plan is trusted as far as its tensors are those that the bundle declares."""
        import tensorrt as trt

        modes = {trt.TensorIOMode.INPUT: spec.inputs, trt.TensorIOMode.OUTPUT: spec.outputs}
        has = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
        declared = {tensor.name for tensors in modes.values() for tensor in tensors}
        if has != declared:
            self._refuse(name, f"tensors {sorted(has)}, declared {sorted(declared)}")
        if engine.num_optimization_profiles != len(self._target.batch_sizes):
            self._refuse(name, f"{engine.num_optimization_profiles} optimisation profiles")
        for mode, tensors in modes.items():
            for tensor in tensors:
                self._check_tensor_of(engine, name, tensor, mode)

    def _check_tensor_of(
        self, engine: trt.ICudaEngine, name: str, tensor: TensorSpec, mode: trt.TensorIOMode
    ) -> None:
        import tensorrt as trt

        if engine.get_tensor_mode(tensor.name) != mode:
            self._refuse(name, f"{tensor.name} is no {mode.name.lower()}")
        if engine.get_tensor_dtype(tensor.name) != trt.DataType.FLOAT:
            self._refuse(name, f"{tensor.name} is no float32")
        if tuple(engine.get_tensor_shape(tensor.name))[1:] != tensor.row:
            self._refuse(name, f"{tensor.name} is {list(engine.get_tensor_shape(tensor.name))}")

    def _refuse(self, name: str, what: str) -> None:
        raise EngineError(self._target.name, f"the plan of {self._bundle.name} {name} has {what}")

    def _set_up(
        self,
        context: trt.IExecutionContext,
        profile: int,
        size: int,
        spec: GraphSpec,
        buffers: GraphBuffers,
    ) -> None:
        stream = self._device.stream
        self._must(context.set_optimization_profile_async(profile, stream), "a profile")
        self._device.synchronize()
        for name, shape in shapes(spec.inputs, size).items():
            self._must(context.set_input_shape(name, shape), f"the shape of {name}")
            self._must(context.set_tensor_address(name, buffers.inputs[name].address), name)
        for name, buffer in buffers.outputs.items():
            self._must(context.set_tensor_address(name, buffer.address), name)
        if unknown := context.infer_shapes():
            raise EngineError(self._target.name, f"shapes left open: {', '.join(unknown)}")

    def _must(self, done: bool, what: str) -> None:
        self._api.need(done, f"{self._bundle.name}: cannot set {what}")

    def _execute(self, graph: str, inputs: Tensors, size: int) -> Tensors:
        buffers, work = self._buffers[graph], self._work[graph, size]
        self._device.use()
        buffers.fill(inputs, size)
        if work.captured is not None:
            self._device.replay(work.captured)
        elif self._gpu.cuda_graphs and work.runs > 0:
            # The first run after a change of shape settles what must not happen in a capture.
            work.captured = self._device.capture(lambda: self._enqueue(work, buffers, size))
            self._device.replay(work.captured)
        else:
            self._enqueue(work, buffers, size)
        self._device.synchronize()
        work.runs += 1
        return buffers.results(size)

    def _enqueue(self, work: _Work, buffers: GraphBuffers, size: int) -> None:
        buffers.upload(size)
        done = work.context.execute_async_v3(self._device.stream)
        self._api.need(done, f"{self._bundle.name}: a batch of {size} did not run")
        buffers.download(size)
