"""torchaudio as an oracle: what its transforms say, where it can be imported at all."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


class _NoExtension(ModuleType):
    """Stands in for torchaudio's compiled extension, which wants the CUDA build of torch.

    The transforms use none of it; what aligns says so when it is called.
    """

    _IS_TORCHAUDIO_EXT_AVAILABLE = False

    @staticmethod
    def fail_if_no_align(function: Callable[..., Any]) -> Callable[..., Any]:
        return function


def torchaudio_transforms() -> ModuleType:
    """``torchaudio.transforms``; skips the test with the reason where it does not import."""
    name = "torchaudio._extension"
    sys.modules.setdefault(name, _NoExtension(name))
    try:
        return importlib.import_module("torchaudio.transforms")
    except (ImportError, OSError) as err:
        pytest.skip(f"torchaudio does not import here: {err}")
