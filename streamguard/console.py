"""What the command line prints: the only place that writes to the terminal."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

UNWRAPPED = 10_000
"""Columns of what is no terminal: a pipe or a file breaks no lines, and cuts nothing off."""


def say(text: str = "") -> None:
    """One line to standard output."""
    print(text)  # noqa: T201  # this is the command line's own voice


def complain(text: str) -> None:
    """One line to standard error."""
    print(text, file=sys.stderr)  # noqa: T201  # this is the command line's own voice


def say_json(value: Any) -> None:
    """One object on one line; flushed, because a program may be reading as we go.

    ASCII only: file names need not be text in the encoding of the terminal, nor in any.
    """
    print(json.dumps(value, allow_nan=False), flush=True)  # noqa: T201  # same


def terminal() -> Console:
    """Standard output for tables and colours; as wide as it takes where it is no terminal."""
    from rich.console import Console  # here: `streamguard --help` does without it

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=UNWRAPPED)


def printable(name: str) -> str:
    """A file name as one line that changes nothing on a terminal: escapes for control characters,
    for line breaks and for bytes that are no text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def silence_stdout() -> None:
    """Let what is still buffered go nowhere: the reader of our output (head, less) has left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
