"""The onnxruntime engine: checked sessions, fixed batch sizes, asked compared with got."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from streamguard.errors import BundleError, EngineError
from streamguard.inference.bundle import Bundle
from streamguard.inference.engine import EngineInfo, EngineTarget
from streamguard.inference.schema import GraphSpec, TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamguard.inference.engine import Tensors

logger = logging.getLogger(__name__)

_ORT_FLOAT32 = "tensor(float)"


class OrtEngine:
    """Sessions for the graphs of one bundle in the precision of one target. Stateless.

    Owned and called by one thread. Raises EngineError if the provider is not had, BundleError if a
    graph is not what the bundle declares.
    """

    def __init__(self, bundle: Bundle, target: EngineTarget) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as pybind

        self._target = target
        self._bundle = bundle
        # onnxruntime's exceptions share no base class of their own.
        self._failures: tuple[type[Exception], ...] = tuple(
            getattr(pybind, name)
            for name in (
                "EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph",
                "InvalidProtobuf", "ModelLoaded", "NoModel", "NoSuchFile", "NotImplemented",
                "RuntimeException",
            )
        )  # fmt: skip
        provider = self._available_provider(onnxruntime)
        choice = bundle.choose(target.precision)
        names = [name for name in (choice.body, choice.head) if name is not None]
        self._specs: dict[str, GraphSpec] = {n: bundle.manifest.graphs[n] for n in names}
        self._sessions: dict[str, Any] = {
            name: self._open(onnxruntime, name, provider) for name in names
        }
        for name, graph in self._specs.items():
            if graph.precision != target.precision:
                logger.info(
                    "%s: %s runs in %s: there is none in %s",
                    bundle.name, name, graph.precision, target.precision,
                )  # fmt: skip
        effective = {session.get_providers()[0] for session in self._sessions.values()}
        for got in effective - {target.provider}:
            self._fallback(f"asked for {target.provider}, got {got}")
        self._info = EngineInfo(
            target=target.name,
            requested_provider=target.provider,
            provider="+".join(sorted(effective)),
            requested_precision=target.precision,
            precision=self._specs[choice.body].precision,
            runtime_version=f"onnxruntime {onnxruntime.__version__}",
        )

    @property
    def info(self) -> EngineInfo:
        return self._info

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run a graph on any number of rows, padded to and split by the target's batch sizes.

        Raises EngineError naming graph and tensor.
        """
        spec = self._specs.get(graph)
        if spec is None:
            raise EngineError(self._target.name, f"{self._bundle.name}: no graph {graph} in use")
        rows = self._check_inputs(graph, spec, inputs)
        largest = self._target.batch_sizes[-1]
        parts = [
            self._run_padded(graph, spec, {n: x[at : at + largest] for n, x in inputs.items()})
            for at in range(0, rows, largest)
        ]
        if len(parts) == 1:
            return parts[0]
        return {t.name: np.concatenate([part[t.name] for part in parts]) for t in spec.outputs}

    def warm_up(self) -> None:
        """Run every graph once per batch size, on zeros."""
        for name, spec in self._specs.items():
            for size in self._target.batch_sizes:
                self.run(name, {t.name: np.zeros((size, *t.row), np.float32) for t in spec.inputs})

    def close(self) -> None:
        """Release the sessions; the engine cannot run afterwards."""
        self._sessions.clear()
        self._specs.clear()

    def _available_provider(self, onnxruntime: Any) -> str:
        available: list[str] = onnxruntime.get_available_providers()
        if self._target.provider in available:
            return self._target.provider
        # Asked first, because a session only warns and then falls back.
        self._fallback(f"{self._target.provider} is not available; {', '.join(available)} is")
        return "CPUExecutionProvider"

    def _fallback(self, what: str) -> None:
        if not self._target.allow_fallback:
            raise EngineError(self._target.name, f"{what} (allow_fallback is off)")
        logger.warning("engine %s falls back: %s", self._target.name, what)

    def _open(self, onnxruntime: Any, name: str, provider: str) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._target.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Idle threads of a resident daemon must not hold a core.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(
                self._bundle.read_graph(name), options, providers=[provider]
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

    def _check_inputs(self, graph: str, spec: GraphSpec, inputs: Tensors) -> int:
        if inputs.keys() != {tensor.name for tensor in spec.inputs}:
            wants = sorted(tensor.name for tensor in spec.inputs)
            raise EngineError(self._target.name, f"{graph}: wants {wants}, given {sorted(inputs)}")
        rows = {len(x) for x in inputs.values()}
        if len(rows) != 1 or 0 in rows:
            raise EngineError(self._target.name, f"{graph}: rows of the inputs: {sorted(rows)}")
        for tensor in spec.inputs:
            self._check_tensor(graph, tensor, inputs[tensor.name])
        return rows.pop()

    def _check_tensor(self, graph: str, tensor: TensorSpec, x: npt.NDArray[Any]) -> None:
        if x.dtype != np.float32 or x.shape[1:] != tensor.row:
            raise EngineError(
                self._target.name,
                f"{self._bundle.name}: {graph}.{tensor.name}: must be float32"
                f" {list(tensor.shape)}, is {x.dtype} {list(x.shape)}",
            )

    def _run_padded(self, graph: str, spec: GraphSpec, inputs: Tensors) -> Tensors:
        rows = len(next(iter(inputs.values())))
        size = next(size for size in self._target.batch_sizes if size >= rows)
        if size > rows:
            inputs = {
                n: np.concatenate([x, np.zeros((size - rows, *x.shape[1:]), np.float32)])
                for n, x in inputs.items()
            }
        names = [tensor.name for tensor in spec.outputs]
        try:
            outputs = self._sessions[graph].run(names, dict(inputs))
        except self._failures as err:
            raise EngineError(self._target.name, f"{self._bundle.name}: {graph}: {err}") from err
        for tensor, x in zip(spec.outputs, outputs, strict=True):
            self._check_tensor(graph, tensor, x)
            if len(x) != size:
                raise EngineError(
                    self._target.name,
                    f"{self._bundle.name}: {graph}.{tensor.name}: {len(x)} rows for {size}",
                )
        return {name: x[:rows] for name, x in zip(names, outputs, strict=True)}
