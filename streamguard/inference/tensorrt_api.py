"""TensorRT's Python package, imported when a target asks for it, and its log in ours.

Written against the packages 10.13 and 11.4: networks are strongly typed (the types of the graph
are the types of the plan), which 10 must be told and 11 always is.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from streamguard.errors import EngineError, MissingExtraError

if TYPE_CHECKING:
    import tensorrt as trt

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

OLDEST = 10
"""The first with `set_tensor_address` and `execute_async_v3` only, and strong typing for ONNX."""


@dataclass(frozen=True, slots=True)
class TensorRt:
    """Its version, and a logger that every object of it needs."""

    version: str
    log: trt.ILogger
    target: str
    """Name of the target, for messages."""

    def need(self, thing: _T | None, what: str) -> _T:
        """TensorRT returns None or False where it fails; the reason is in its log."""
        if thing is None or thing is False:  # an empty network, which has a length, is neither
            raise EngineError(self.target, f"TensorRT {self.version}: {what}: see the log")
        return thing


def load_tensorrt(target: str) -> TensorRt:
    """Raises MissingExtraError where it is not installed, EngineError where it is too old."""
    try:
        import tensorrt as trt
    except ImportError as err:
        raise MissingExtraError(f"engine {target}", "tensorrt", str(err)) from err
    version: str = trt.__version__
    if int(version.split(".", 1)[0]) < OLDEST:
        raise EngineError(target, f"TensorRT {version}: at least {OLDEST} is needed")
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.CRITICAL,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
        trt.ILogger.Severity.INFO: logging.DEBUG,  # it says every kernel that it tries
    }

    class Log(trt.ILogger):  # type: ignore[misc, unused-ignore]  # Any without its stubs
        """Forwards to the standard log; verbose lines are dropped."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 wants the base called by name

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            if severity in levels:
                logger.log(levels[severity], "%s", msg)

    return TensorRt(version=version, log=Log(), target=target)
