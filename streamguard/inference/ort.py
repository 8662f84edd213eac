"""The onnxruntime engine: checked sessions, fixed batch sizes, asked compared with got."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from streamguard.errors import BundleError, EngineError
from streamguard.inference import ort_gpu
from streamguard.inference.bundle import Bundle
from streamguard.inference.cuda import CudaDevice
from streamguard.inference.engine import EngineInfo, EngineTarget
from streamguard.inference.fixed import FixedBatchEngine, padded
from streamguard.inference.schema import GraphSpec, TensorSpec

if TYPE_CHECKING:
    from streamguard.inference.engine import Tensors

_ORT_FLOAT32 = "tensor(float)"


class OrtEngine(FixedBatchEngine):
    """Sessions for the graphs of one bundle in the precision of one target. Stateless.

    Owned and called by one thread. Raises EngineError if the provider is not had, BundleError if a
    graph is not what the bundle declares.
    """

    def __init__(self, bundle: Bundle, target: EngineTarget) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as pybind

        # Before the bundle is looked at: without its provider a target is of no use.
        self._target = target
        provider = self._available_provider(onnxruntime)
        super().__init__(bundle, target)
        # onnxruntime's exceptions share no base class of their own.
        self._failures: tuple[type[Exception], ...] = tuple(
            getattr(pybind, name)
            for name in (
                "EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph",
                "InvalidProtobuf", "ModelLoaded", "NoModel", "NoSuchFile", "NotImplemented",
                "RuntimeException",
            )
        )  # fmt: skip
        self._gpu = target.gpu if provider == target.provider else None
        self._device: CudaDevice | None = None
        self._sessions: dict[str, Any] = {}
        self._bound: dict[str, ort_gpu.BoundSession] = {}
        try:
            self._open_all(onnxruntime, provider)
        except BaseException:
            self.close()
            raise
        effective = {session.get_providers()[0] for session in self._sessions.values()}
        self._info = self._effective(effective, f"onnxruntime {onnxruntime.__version__}")

    @property
    def info(self) -> EngineInfo:
        return self._info

    def close(self) -> None:
        """Release sessions and buffers; the engine cannot run afterwards."""
        for bound in self._bound.values():
            bound.close()
        self._bound.clear()
        self._sessions.clear()
        self._specs.clear()
        if self._device is not None:
            self._device.close()
            self._device = None

    def _open_all(self, onnxruntime: Any, provider: str) -> None:
        if self._gpu is not None:
            self._device = CudaDevice(self._target.name, self._gpu.device_id)
            self.warm_up_runs = ort_gpu.WARM_UP_RUNS
        for name, spec in self._specs.items():
            session = self._sessions[name] = self._open(onnxruntime, name, provider)
            if (got := session.get_providers()[0]) != self._target.provider:
                self._fallback(f"asked for {self._target.provider}, got {got}")
            elif self._gpu is not None and self._device is not None:
                if found := list(itertools.islice(ort_gpu.strays(session, got), 3)):
                    self._fallback(f"{name}: not everything runs on {got}: {', '.join(found)}")
                self._bound[name] = ort_gpu.BoundSession(
                    session,
                    spec,
                    self._device,
                    self._target.batch_sizes,
                    cuda_graphs=self._gpu.cuda_graphs,
                )

    def _available_provider(self, onnxruntime: Any) -> str:
        available: list[str] = onnxruntime.get_available_providers()
        if self._target.provider in available:
            return self._target.provider
        # Asked first, because a session only warns and then falls back.
        hint = " (the package onnxruntime-gpu has it)" if self._target.gpu else ""
        self._fallback(
            f"{self._target.provider} is not available{hint}; there is {', '.join(available)}"
        )
        return "CPUExecutionProvider"

    def _open(self, onnxruntime: Any, name: str, provider: str) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._target.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Idle threads of a resident daemon must not hold a core.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[Any] = [provider]
        if self._gpu is not None and self._device is not None:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
            providers = list(
                ort_gpu.provider_options(self._bundle, name, self._target, self._gpu, self._device)
            )
        try:
            session = onnxruntime.InferenceSession(
                self._bundle.read_graph(name), options, providers=providers
            )
        except self._failures as err:
            file = str(self._bundle.folder / self._specs[name].file)
            raise BundleError(file, f"graphs.{name}: the runtime refuses it: {err}") from err
        session.disable_fallback()
        self._check_session(name, self._specs[name], session)
        return session

    def _check_session(self, name: str, spec: GraphSpec, session: Any) -> None:
        file = str(self._bundle.folder / spec.file)
        for where, declared, actual in (
            ("inputs", spec.inputs, session.get_inputs()),
            ("outputs", spec.outputs, session.get_outputs()),
        ):
            at = f"graphs.{name}.{where}"
            has = {tensor.name: tensor for tensor in actual}
            names = {tensor.name for tensor in declared}
            if names != has.keys():
                raise BundleError(file, f"{at}: declared {sorted(names)}, it has {sorted(has)}")
            for tensor in declared:
                found = has[tensor.name]
                if found.type != _ORT_FLOAT32:
                    raise BundleError(
                        file, f"{at}.{tensor.name}.dtype: declared float32, it is {found.type}"
                    )
                if not self._shape_fits(tensor, list(found.shape), exact=where == "inputs"):
                    raise BundleError(
                        file,
                        f"{at}.{tensor.name}.shape: declared {list(tensor.shape)},"
                        f" it is {found.shape}",
                    )

    def _shape_fits(self, tensor: TensorSpec, actual: list[Any], *, exact: bool) -> bool:
        """Symbolic sizes of an output are settled at warm-up, when real rows come out."""
        if len(actual) != len(tensor.shape):
            return not exact and not actual
        if isinstance(actual[0], int) and self._target.batch_sizes != (actual[0],):
            return False
        return all(
            got == want or (not exact and not isinstance(got, int))
            for got, want in zip(actual[1:], tensor.row, strict=True)
        )

    def _execute(self, graph: str, inputs: Tensors, size: int) -> Tensors:
        names = [tensor.name for tensor in self._specs[graph].outputs]
        try:
            if graph in self._bound:
                return self._bound[graph].run(inputs, size)
            outputs = self._sessions[graph].run(names, dict(padded(inputs, size)))
        except self._failures as err:
            raise EngineError(self._target.name, f"{self._bundle.name}: {graph}: {err}") from err
        return dict(zip(names, outputs, strict=True))
