"""What every engine does before and after its runtime: check, split, pad to fixed batch sizes."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from streamguard.errors import EngineError
from streamguard.inference.bundle import Bundle
from streamguard.inference.engine import EngineInfo, EngineTarget
from streamguard.inference.schema import GraphSpec, TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamguard.inference.engine import Tensors

logger = logging.getLogger(__name__)


class FixedBatchEngine(ABC):
    """The graphs of one bundle in the precision of one target; a runtime adds :meth:`_execute`.

    Stateless, owned and called by one thread. Raises BundleError if the bundle has no such graphs.
    """

    warm_up_runs = 1
    """Per graph and batch size: some runtimes capture only in a later run."""

    def __init__(self, bundle: Bundle, target: EngineTarget) -> None:
        self._target = target
        self._bundle = bundle
        choice = bundle.choose(target.precision)
        names = [name for name in (choice.body, choice.head) if name is not None]
        self._specs: dict[str, GraphSpec] = {n: bundle.manifest.graphs[n] for n in names}
        self._precision = self._specs[choice.body].precision
        for name, graph in self._specs.items():
            if graph.precision != target.precision:
                logger.info(
                    "%s: %s runs in %s: there is none in %s",
                    bundle.name, name, graph.precision, target.precision,
                )  # fmt: skip

    @property
    @abstractmethod
    def info(self) -> EngineInfo: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _execute(self, graph: str, inputs: Tensors, size: int) -> Tensors:
        """Run at most ``size`` rows as a batch of exactly ``size``; returns ``size`` rows.

        What is returned must stay as it is when the next batch runs.
        """

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
            self._run_part(graph, spec, {n: x[at : at + largest] for n, x in inputs.items()})
            for at in range(0, rows, largest)
        ]
        if len(parts) == 1:
            return parts[0]
        return {t.name: np.concatenate([part[t.name] for part in parts]) for t in spec.outputs}

    def warm_up(self) -> None:
        """Run every graph in every batch size, on zeros."""
        for name, spec in self._specs.items():
            for size in self._target.batch_sizes:
                zeros = {t.name: np.zeros((size, *t.row), np.float32) for t in spec.inputs}
                for _ in range(self.warm_up_runs):
                    self.run(name, zeros)

    def _effective(self, providers: set[str], runtime_version: str) -> EngineInfo:
        return EngineInfo(
            target=self._target.name,
            requested_provider=self._target.provider,
            provider="+".join(sorted(providers)),
            requested_precision=self._target.precision,
            precision=self._precision,
            runtime_version=runtime_version,
        )

    def _fallback(self, what: str) -> None:
        """Another provider serves: an error, unless the target allows it."""
        if not self._target.allow_fallback:
            raise EngineError(self._target.name, f"{what} (allow_fallback is off)")
        logger.warning("engine %s falls back: %s", self._target.name, what)

    def _run_part(self, graph: str, spec: GraphSpec, inputs: Tensors) -> Tensors:
        rows = len(next(iter(inputs.values())))
        size = next(size for size in self._target.batch_sizes if size >= rows)
        outputs = self._execute(graph, inputs, size)
        for tensor in spec.outputs:
            x = outputs[tensor.name]
            self._check_tensor(graph, tensor, x)
            if len(x) != size:
                raise EngineError(
                    self._target.name,
                    f"{self._bundle.name}: {graph}.{tensor.name}: {len(x)} rows for {size}",
                )
        return {tensor.name: outputs[tensor.name][:rows] for tensor in spec.outputs}

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


def padded(inputs: Tensors, size: int) -> Tensors:
    """Rows of zeros behind the given ones, up to ``size``."""
    rows = len(next(iter(inputs.values())))
    if rows == size:
        return inputs
    return {
        n: np.concatenate([x, np.zeros((size - rows, *x.shape[1:]), np.float32)])
        for n, x in inputs.items()
    }
