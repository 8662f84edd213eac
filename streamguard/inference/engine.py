"""What the daemon asks of an inference engine; each runtime implements it once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Tensors = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """The section ``gpu`` of a target; ``inference/target.py`` says which key fits which runtime.

    None: the runtime's own default. Inputs and outputs are always bound to fixed device buffers
    and copied from and to pinned memory.
    """

    device_id: int = 0
    cuda_graphs: bool = False
    """Each batch size is captured once and replayed: one launch instead of one per kernel."""
    memory_mib: int | None = None
    """Bound of the runtime's arena."""
    workspace_mib: int | None = None
    """Scratch memory that TensorRT's kernels may ask for."""
    optimization_level: int = 3
    """TensorRT's builder: 0 (fast build) to 5 (fast plan)."""
    timing_cache: bool = True
    """Keep TensorRT's kernel timings, so that a second build takes seconds."""
    plan_dir: str | None = None
    """Where compiled plans are kept; None: the user's cache directory."""
    channels_last: bool = False
    """torch: convolutions in the memory layout of the matrix units."""


@dataclass(frozen=True, slots=True)
class EngineTarget:
    """One file of ``engines/``: how graphs are to be run."""

    name: str
    runtime: str
    """``onnxruntime`` | ``tensorrt`` | ``torch``."""
    provider: str
    """As the runtime names it, e.g. ``CPUExecutionProvider``; ``tensorrt``; ``cuda`` or ``cpu``."""
    precision: str
    """``fp32`` | ``int8`` | ``fp16``; chooses the graphs and the calibration of a bundle."""
    threads: int
    batch_sizes: tuple[int, ...]
    """Ascending; a batch is padded to the next of these, larger ones are split."""
    allow_fallback: bool = False
    """Whether another provider than the asked one may serve."""
    gpu: GpuOptions | None = None
    """None where the provider is no GPU's."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Asked versus got."""

    target: str
    requested_provider: str
    provider: str
    requested_precision: str
    precision: str
    runtime_version: str


class Engine(Protocol):
    """Stateless graphs by name. Owned and called by one thread only."""

    @property
    def info(self) -> EngineInfo: ...

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run one graph on a batch (first axis); any batch size, split and padded inside."""

    def warm_up(self) -> None:
        """Run every graph once per batch size, so that the first window is not the slow one."""

    def close(self) -> None: ...
