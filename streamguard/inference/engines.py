"""An engine for a bundle on a target: the one place that knows every runtime."""

from __future__ import annotations

from streamguard.inference.bundle import Bundle
from streamguard.inference.engine import Engine, EngineTarget


def open_engine(bundle: Bundle, target: EngineTarget) -> Engine:
    """Raises EngineError, MissingExtraError, BundleError."""
    # Imported here: each of them is a runtime that another target does without.
    match target.runtime:
        case "onnxruntime":
            from streamguard.inference.ort import OrtEngine

            return OrtEngine(bundle, target)
        case "tensorrt":
            from streamguard.inference.tensorrt_engine import TensorRtEngine

            return TensorRtEngine(bundle, target)
        case "torch":
            from streamguard.inference.torch_engine import TorchEngine

            return TorchEngine(bundle, target)
        case _:
            raise AssertionError(target.runtime)
