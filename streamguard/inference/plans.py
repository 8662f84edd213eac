"""Compiled plans in the user's cache directory: what each was built for, and whether it fits.

A plan is machine code for one architecture and one version of its runtime. Beside each
``<digest>.plan`` lies ``<digest>.json``: the whole key, and the plan's sha256.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from streamguard.errors import EngineError

if TYPE_CHECKING:
    from streamguard.inference.bundle import Bundle
    from streamguard.inference.cuda import CudaDevice
    from streamguard.inference.engine import EngineTarget, GpuOptions

MAX_KEY_BYTES = 64 << 10
SCHEMA = "streamguard.plan/1"


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that a plan depends on; another value of any of it needs another plan."""

    bundle: str
    """Name, for the reader; the hash decides."""
    bundle_sha256: str
    graph: str
    precision: str
    shapes: str
    """Inputs and batch sizes, e.g. ``samples 8108 x 1,8,64``."""
    options: str
    """Of the build, e.g. ``workspace 1024 MiB, level 3``."""
    runtime: str
    """E.g. ``tensorrt 11.4.0.106``: other versions refuse a plan, or read it wrongly."""
    device: str
    """Name of the GPU: kernels were timed on it."""
    capability: str
    """Its architecture."""

    @property
    def digest(self) -> str:
        """Name of the files."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def differences(self, other: PlanKey) -> Iterator[str]:
        """What another key says differently, in words."""
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine != theirs and field.name != "bundle":
                yield f"{field.name} {theirs}, here {mine}"


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan in the store."""

    key: PlanKey
    file: Path
    sha256: str
    """As written when it was built."""


def plan_key(
    bundle: Bundle,
    graph: str,
    target: EngineTarget,
    gpu: GpuOptions,
    device: CudaDevice,
    runtime: str,
) -> PlanKey:
    """What a plan of this graph depends on."""
    spec = bundle.manifest.graphs[graph]
    inputs = ", ".join(f"{t.name} {'x'.join(map(str, t.row))}" for t in spec.inputs)
    workspace = "any" if gpu.workspace_mib is None else f"{gpu.workspace_mib} MiB"
    return PlanKey(
        bundle=bundle.name,
        bundle_sha256=bundle.sha256,
        graph=graph,
        precision=spec.precision,
        shapes=f"{inputs} x {','.join(map(str, target.batch_sizes))}",
        options=f"workspace {workspace}, level {gpu.optimization_level}",
        runtime=runtime,
        device=device.name,
        capability=device.capability,
    )


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/streamguard/plans``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "streamguard" / "plans"


class PlanStore:
    """The plans of one folder. Raises EngineError where a plan is missing or must not be used."""

    def __init__(self, target: str, folder: str | None = None) -> None:
        self._target = target
        self.folder = Path(folder).expanduser() if folder else default_folder()

    def load(self, key: PlanKey) -> bytes:
        """The plan for this key: whole, ours, unchanged since it was built."""
        stored = self._read(self.folder / f"{key.digest}.json")
        if stored is None or stored.key != key:
            raise EngineError(self._target, self._missing(key))
        self._check_owner(self.folder)
        self._check_owner(stored.file)
        try:
            plan = stored.file.read_bytes()
        except OSError as err:
            raise EngineError(self._target, f"{stored.file}: {err.strerror}") from err
        if hashlib.sha256(plan).hexdigest() != stored.sha256:
            raise EngineError(
                self._target, f"{stored.file}: not the plan that was built; build it again"
            )
        return plan

    def save(self, key: PlanKey, plan: bytes) -> Path:
        """Write plan, then key; each whole or not at all."""
        self.prepare()
        file = self.folder / f"{key.digest}.plan"
        document = {
            "schema": SCHEMA,
            "sha256": hashlib.sha256(plan).hexdigest(),
            "key": asdict(key),
        }
        self._write(file, plan)
        self._write(file.with_suffix(".json"), json.dumps(document, indent=2).encode())
        return file

    def stored(self) -> tuple[StoredPlan, ...]:
        """Every readable plan of the folder."""
        found = (self._read(file) for file in sorted(self.folder.glob("*.json")))
        return tuple(plan for plan in found if plan is not None)

    def timing_cache(self, runtime: str, capability: str) -> Path:
        """The file of kernel timings, which hold for one runtime on one architecture."""
        name = f"timing-{runtime}-sm{capability}.cache".replace(" ", "-")
        return self.folder / name

    def read_timing_cache(self, file: Path) -> bytes:
        """Empty where there is none yet."""
        if not file.is_file():
            return b""
        self._check_owner(file)
        return file.read_bytes()

    def write_timing_cache(self, file: Path, data: bytes) -> None:
        self.prepare()
        self._write(file, data)

    def prepare(self) -> None:
        """Make the folder, for this user alone."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as err:
            raise EngineError(self._target, f"{self.folder}: {err.strerror}") from err
        self._check_owner(self.folder)

    def _missing(self, key: PlanKey) -> str:
        """Why no plan fits: none built, or which of those that were built come nearest."""
        others = [
            list(key.differences(plan.key))
            for plan in self.stored()
            if (plan.key.bundle, plan.key.graph) == (key.bundle, key.graph)
        ]
        build = f"streamguard engine build --target {self._target} --bundle {key.bundle}"
        what = f"no plan for {key.bundle} {key.graph} in {self.folder}"
        if not others:
            return f"{what}: {build}"
        nearest = min(others, key=len)
        return f"{what} fits: the nearest was built for {'; '.join(nearest)}. {build}"

    def _read(self, file: Path) -> StoredPlan | None:
        """None for what is no description of a plan: it is then as good as missing."""
        try:
            with file.open("rb") as stream:
                document = json.loads(stream.read(MAX_KEY_BYTES))
            if document["schema"] != SCHEMA:
                return None
            key = PlanKey(**document["key"])
            return StoredPlan(key, file.with_suffix(".plan"), str(document["sha256"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _check_owner(self, path: Path) -> None:
        """A plan is code that will run: nobody else may have written it."""
        try:
            status = path.stat()
        except OSError as err:
            raise EngineError(self._target, f"{path}: {err.strerror}") from err
        if status.st_uid not in (os.geteuid(), 0):
            raise EngineError(self._target, f"{path}: belongs to another user: not loaded")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise EngineError(self._target, f"{path}: others may write it: not loaded (chmod go-w)")

    def _write(self, file: Path, data: bytes) -> None:
        fresh = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
            fresh.replace(file)
        except OSError as err:
            fresh.unlink(missing_ok=True)
            raise EngineError(self._target, f"{file}: {err.strerror}") from err
