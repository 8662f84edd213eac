"""``engine: auto``: the fastest target whose answers were accepted, bundle by bundle."""

from __future__ import annotations

from streamguard.inference.bundle import Bundle
from streamguard.inference.engine import EngineTarget
from streamguard.inference.processor import multiplies_int8, own_instructions
from streamguard.inference.target import load_target

AUTO = "auto"
FP32 = "cpu-fp32"
INT8 = "cpu-int8"


def auto_target(bundle: Bundle, instructions: frozenset[str]) -> str:
    """Name of the packaged target for a bundle on a processor with these instructions."""
    return INT8 if multiplies_int8(instructions) and bundle.accepts("int8") else FP32


def target_for(engine: str, bundle: Bundle) -> EngineTarget:
    """The target that a configuration names, or the one that ``auto`` means. Raises EngineError."""
    return load_target(auto_target(bundle, own_instructions()) if engine == AUTO else engine)
