"""Engine targets: the files of ``engines/``, read strictly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from streamguard.errors import EngineError
from streamguard.inference.engine import EngineTarget
from streamguard.inference.plain import PlainDataError, parse_plain
from streamguard.inference.schema import Name, Precision
from streamguard.resources import packaged_target, packaged_targets

MAX_BYTES = 64 << 10
MAX_BATCH = 256


@dataclass(frozen=True, slots=True)
class _Document:
    """What a file of ``engines/`` may say."""

    name: Name
    runtime: Literal["onnxruntime"]
    provider: Annotated[str, Field(pattern=r"^[A-Za-z]{1,64}ExecutionProvider$")]
    precision: Precision
    threads: Annotated[int, Field(ge=1, le=64)]
    batch_sizes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=MAX_BATCH)], ...], Field(min_length=1, max_length=32)
    ]
    allow_fallback: bool = False

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
    return EngineTarget(
        name=document.name,
        runtime=document.runtime,
        provider=document.provider,
        precision=document.precision,
        threads=document.threads,
        batch_sizes=sizes,
        allow_fallback=document.allow_fallback,
    )
