"""What the command line prints: the only place that writes to the terminal."""

from __future__ import annotations

import json
import sys
from typing import Any


def say(text: str = "") -> None:
    """One line to standard output."""
    print(text)  # noqa: T201  # this is the command line's own voice


def complain(text: str) -> None:
    """One line to standard error."""
    print(text, file=sys.stderr)  # noqa: T201  # this is the command line's own voice


def say_json(value: Any) -> None:
    """One object on one line; flushed, because a program may be reading as we go."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)  # noqa: T201  # same
