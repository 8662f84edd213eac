"""Build a TensorRT plan from an ONNX graph of a bundle: minutes, once per GPU and version."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from streamguard.errors import EngineError
from streamguard.inference.cuda import shapes
from streamguard.inference.plans import PlanKey, PlanStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import tensorrt as trt

    from streamguard.inference.bundle import Bundle
    from streamguard.inference.engine import GpuOptions
    from streamguard.inference.schema import GraphSpec
    from streamguard.inference.tensorrt_api import TensorRt

logger = logging.getLogger(__name__)

MAX_ERRORS = 5
"""Of the parser, in one message."""


def build_plan(
    api: TensorRt, bundle: Bundle, key: PlanKey, sizes: Sequence[int], gpu: GpuOptions
) -> Path:
    """Build, and keep in the store under its key. Raises EngineError saying what TensorRT refuses.

    One optimisation profile per batch size, with that size alone: kernels are chosen for it, and
    no shape is left open that a later run could rebuild for.
    """
    import tensorrt as trt

    store = PlanStore(api.target, gpu.plan_dir)
    spec = bundle.manifest.graphs[key.graph]
    started = time.monotonic()
    logger.info("building a plan of %s %s for %s", bundle.name, key.graph, key.device)
    builder = trt.Builder(api.log)
    # Precision is what the graph says, node by node. TensorRT 11 knows no other way.
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = api.need(builder.create_network(strongly_typed), "no network")
    _parse(api, network, bundle.read_graph(key.graph), key)
    config = api.need(builder.create_builder_config(), "no builder configuration")
    # fp32 means fp32: the front end takes logarithms of what tf32 would have rounded.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.builder_optimization_level = gpu.optimization_level
    if gpu.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, gpu.workspace_mib << 20)
    for size in sizes:
        config.add_optimization_profile(_profile(builder, spec, size))
    timings = store.timing_cache(key.runtime, key.capability) if gpu.timing_cache else None
    if timings is not None:
        _use_timings(config, store, timings)
    plan = api.need(builder.build_serialized_network(network, config), f"cannot build {key.graph}")
    if timings is not None:
        store.write_timing_cache(timings, bytes(config.get_timing_cache().serialize()))
    file = store.save(key, bytes(plan))
    logger.info("built %s in %.0f s", file, time.monotonic() - started)
    return file


def _parse(api: TensorRt, network: trt.INetworkDefinition, graph: bytes, key: PlanKey) -> None:
    import tensorrt as trt

    parser = trt.OnnxParser(network, api.log)
    if parser.parse(graph):
        return
    errors = [
        f"node {error.node()}: {error.desc()}"
        for error in (parser.get_error(i) for i in range(min(parser.num_errors, MAX_ERRORS)))
    ]
    raise EngineError(
        api.target,
        f"TensorRT {api.version} does not take {key.bundle} {key.graph}: {'; '.join(errors)}",
    )


def _profile(builder: trt.Builder, spec: GraphSpec, size: int) -> trt.IOptimizationProfile:
    import tensorrt as trt

    profile = builder.create_optimization_profile()
    for name, shape in shapes(spec.inputs, size).items():
        fixed = trt.Dims(shape)
        profile.set_shape(name, fixed, fixed, fixed)
    return profile


def _use_timings(config: trt.IBuilderConfig, store: PlanStore, file: Path) -> None:
    """Timings of earlier builds; TensorRT itself refuses those of another GPU or version."""
    cache = config.create_timing_cache(store.read_timing_cache(file))
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        logger.warning("%s: of another GPU or version: timed anew", file)
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
