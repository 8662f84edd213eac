"""``streamguard engine``: which targets run here, and the plans that TensorRT needs built."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from streamguard.console import say, say_json, terminal
from streamguard.errors import EngineError, StreamguardError
from streamguard.inference.bundle import Bundle, find_bundle, load_bundle
from streamguard.inference.engine import EngineTarget, GpuOptions
from streamguard.inference.pair import DEFAULT_ATTRIBUTION, DEFAULT_DETECTOR
from streamguard.inference.plans import PlanKey, PlanStore, plan_key
from streamguard.inference.target import load_target
from streamguard.resources import packaged_targets


def list_engines(*, as_json: bool) -> int:
    """Every packaged target, what keeps it from running here, and the plans that are stored."""
    targets = [load_target(name) for name in packaged_targets()]
    rows = [_row(target) for target in targets]
    plans = [plan for folder in _folders(targets) for plan in PlanStore("list", folder).stored()]
    if as_json:
        stored = [{"file": str(plan.file), **asdict(plan.key)} for plan in plans]
        say_json({"targets": rows, "plans": stored})
        return 0
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("target", "runtime", "provider", "precision", "batch sizes", "here"):
        table.add_column(column)
    for row in rows:
        sizes = ",".join(map(str, row["batch_sizes"]))
        here = "yes" if row["missing"] is None else escape(row["missing"])
        table.add_row(row["name"], row["runtime"], row["provider"], row["precision"], sizes, here)
    console = terminal()
    console.print(table)
    for plan in plans:
        key = plan.key
        say(
            f"plan: {key.bundle} {key.graph} ({key.precision}) for {key.device} {key.capability}, "
            f"{key.runtime}: {plan.file}"
        )
    return 0


def build_plans(target_name: str, bundles: Sequence[str] | None, *, force: bool) -> int:
    """Compile what a target runs of each bundle. Raises EngineError, BundleError."""
    target = load_target(target_name)
    if target.runtime != "tensorrt":
        raise EngineError(
            target.name, f"runtime {target.runtime} needs nothing built; tensorrt targets do"
        )
    names = bundles or (DEFAULT_DETECTOR, DEFAULT_ATTRIBUTION)
    return _build(target, [load_bundle(find_bundle(name)) for name in names], force=force)


def _build(target: EngineTarget, bundles: Sequence[Bundle], *, force: bool) -> int:
    from streamguard.inference.cuda import CudaDevice
    from streamguard.inference.tensorrt_api import load_tensorrt
    from streamguard.inference.tensorrt_build import build_plan
    from streamguard.inference.tensorrt_engine import runtime_name

    gpu = target.gpu or GpuOptions()
    api = load_tensorrt(target.name)
    device = CudaDevice(target.name, gpu.device_id)
    store = PlanStore(target.name, gpu.plan_dir)
    console = terminal()
    try:
        for bundle in bundles:
            choice = bundle.choose(target.precision)
            for graph in (name for name in (choice.body, choice.head) if name is not None):
                key = plan_key(bundle, graph, target, gpu, device, runtime_name(api))
                what = f"{bundle.name} {graph} for {device.name} ({device.capability})"
                if not force and _is_there(store, key):
                    say(f"{what}: there already")
                    continue
                started = time.monotonic()
                with console.status(f"building {what}: this can take minutes"):
                    file = build_plan(api, bundle, key, target.batch_sizes, gpu)
                say(f"{what}: {file} ({time.monotonic() - started:.0f} s)")
    finally:
        device.close()
    return 0


def _is_there(store: PlanStore, key: PlanKey) -> bool:
    try:
        store.load(key)
    except EngineError:
        return False
    return True


def _row(target: EngineTarget) -> dict[str, Any]:
    return {
        "name": target.name,
        "runtime": target.runtime,
        "provider": target.provider,
        "precision": target.precision,
        "batch_sizes": list(target.batch_sizes),
        "missing": _missing(target),
    }


def _missing(target: EngineTarget) -> str | None:
    """What a target lacks on this machine before any bundle is looked at; None: nothing."""
    try:
        if target.runtime == "onnxruntime":
            _ask_onnxruntime(target)
        elif target.runtime == "tensorrt":
            from streamguard.inference.tensorrt_api import load_tensorrt

            load_tensorrt(target.name)
        else:
            _ask_torch(target)
        if target.gpu is not None:
            from streamguard.inference.cuda import CudaDevice

            if target.runtime != "torch":  # which brings its own
                CudaDevice(target.name, target.gpu.device_id).close()
    except StreamguardError as err:
        return str(err).removeprefix(f"engine {target.name}").lstrip(": ")
    return None


def _ask_onnxruntime(target: EngineTarget) -> None:
    import onnxruntime

    if target.provider not in onnxruntime.get_available_providers():
        raise EngineError(target.name, f"this onnxruntime has no {target.provider}")


def _ask_torch(target: EngineTarget) -> None:
    try:
        import torch
    except ImportError as err:
        raise EngineError(target.name, "torch is not installed") from err
    if target.provider == "cuda" and not torch.cuda.is_available():
        raise EngineError(target.name, "torch sees no CUDA device")


def _folders(targets: Sequence[EngineTarget]) -> list[str | None]:
    """Of all targets, each once; None is the default."""
    return list(dict.fromkeys(target.gpu.plan_dir for target in targets if target.gpu))
