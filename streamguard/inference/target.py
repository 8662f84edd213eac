"""Engine targets: the files of ``engines/``, read strictly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from streamguard.errors import EngineError
from streamguard.inference.engine import EngineTarget, GpuOptions
from streamguard.inference.plain import PlainDataError, parse_plain
from streamguard.inference.schema import Name, Precision
from streamguard.resources import packaged_target, packaged_targets

MAX_BYTES = 64 << 10
MAX_BATCH = 1024
"""A GPU of the H200 class is full at a few hundred hops; more only adds latency."""

GPU_KEYS: dict[tuple[str, str], frozenset[str]] = {
    ("onnxruntime", "CUDAExecutionProvider"): frozenset({"device_id", "cuda_graphs", "memory_mib"}),
    ("onnxruntime", "TensorrtExecutionProvider"): frozenset(
        {"device_id", "workspace_mib", "optimization_level", "timing_cache", "plan_dir"}
    ),
    ("tensorrt", "tensorrt"): frozenset(
        {
            "device_id", "cuda_graphs", "workspace_mib", "optimization_level", "timing_cache",
            "plan_dir",
        }
    ),
    ("torch", "cuda"): frozenset({"device_id", "cuda_graphs", "channels_last"}),
}  # fmt: skip
"""(runtime, provider) -> the keys of ``gpu`` that mean something to it."""
PROVIDERS = {"tensorrt": ("tensorrt",), "torch": ("cuda", "cpu")}
"""Of the runtimes that have a closed list."""


@dataclass(frozen=True, slots=True)
class _GpuDocument:
    """The section ``gpu``; a key that is absent keeps the default of :class:`GpuOptions`."""

    device_id: Annotated[int, Field(ge=0, le=63)] | None = None
    cuda_graphs: bool | None = None
    memory_mib: Annotated[int, Field(ge=64, le=1 << 20)] | None = None
    workspace_mib: Annotated[int, Field(ge=16, le=1 << 20)] | None = None
    optimization_level: Annotated[int, Field(ge=0, le=5)] | None = None
    timing_cache: bool | None = None
    plan_dir: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    channels_last: bool | None = None

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    def given(self) -> dict[str, Any]:
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}


@dataclass(frozen=True, slots=True)
class _Document:
    """What a file of ``engines/`` may say."""

    name: Name
    runtime: Literal["onnxruntime", "tensorrt", "torch"]
    provider: Annotated[
        str, Field(pattern=r"^([A-Za-z]{1,64}ExecutionProvider|tensorrt|cuda|cpu)$")
    ]
    precision: Precision
    threads: Annotated[int, Field(ge=1, le=64)]
    batch_sizes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=MAX_BATCH)], ...], Field(min_length=1, max_length=32)
    ]
    allow_fallback: bool = False
    gpu: _GpuDocument | None = None

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)


_DOCUMENT: TypeAdapter[_Document] = TypeAdapter(_Document)


def load_target(name_or_path: str | Path) -> EngineTarget:
    """A packaged target by name, or one by the path of its ``.yaml`` file. Raises EngineError."""
    path = Path(name_or_path)
    is_path = path.suffix in (".yaml", ".yml") or path != Path(path.name)
    file = path if is_path else packaged_target(path.name)
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as err:
        known = ", ".join(packaged_targets()) or "none"
        raise EngineError(
            str(name_or_path), f"{file}: cannot be read: {err.strerror} (packaged: {known})"
        ) from err
    if len(data) > MAX_BYTES:
        raise EngineError(str(name_or_path), f"{file}: more than {MAX_BYTES} bytes")
    try:
        document = _DOCUMENT.validate_json(json.dumps(parse_plain(data), allow_nan=False))
    except ValidationError as err:
        problems = [
            f"{'.'.join(str(part) for part in error['loc']) or 'top level'}: {error['msg']}"
            for error in err.errors(include_url=False)
        ]
        raise EngineError(str(name_or_path), f"{file}: {'; '.join(problems)}") from err
    except (PlainDataError, TypeError, ValueError) as err:
        raise EngineError(str(name_or_path), f"{file}: {err}") from err
    sizes = document.batch_sizes
    if list(sizes) != sorted(set(sizes)):
        raise EngineError(str(name_or_path), f"{file}: batch_sizes: must ascend: {list(sizes)}")
    if problems := list(_misfits(document)):
        raise EngineError(str(name_or_path), f"{file}: {'; '.join(problems)}")
    is_gpu = (document.runtime, document.provider) in GPU_KEYS
    given = document.gpu.given() if document.gpu else {}
    return EngineTarget(
        name=document.name,
        runtime=document.runtime,
        provider=document.provider,
        precision=document.precision,
        threads=document.threads,
        batch_sizes=sizes,
        allow_fallback=document.allow_fallback,
        gpu=GpuOptions(**given) if is_gpu else None,
    )


def _misfits(document: _Document) -> Iterator[str]:
    """Keys and values that make no sense together."""
    runtime, provider = document.runtime, document.provider
    allowed = PROVIDERS.get(runtime)
    if allowed is None and not provider.endswith("ExecutionProvider"):
        yield f"provider: {provider}: {runtime} names them like CUDAExecutionProvider"
        return
    if allowed is not None and provider not in allowed:
        yield f"provider: {provider}: {runtime} has {' and '.join(allowed)}"
        return
    if runtime == "tensorrt" and document.allow_fallback:
        yield "allow_fallback: true: a TensorRT plan runs nowhere else; name another target instead"
    if runtime == "torch" and document.precision == "int8":
        yield "precision: int8: torch runs the fp32 and fp16 graphs only"
    if document.gpu is None:
        return
    keys = GPU_KEYS.get((runtime, provider), frozenset())
    for key in document.gpu.given():
        if key not in keys:
            fits = ", ".join(sorted(keys)) or "none"
            yield f"gpu.{key}: not a key for {runtime} with {provider} (keys that are: {fits})"
