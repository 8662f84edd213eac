"""The command line, called in this process or as a program of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamguard.cli import main


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Standard output, which must be exactly one object on one line."""
        (line,) = self.out.splitlines()
        value = json.loads(line)
        assert isinstance(value, dict)
        return value

    def json_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def streamguard(*args: str | Path) -> Done:
    """One call of the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as end:  # argparse's own way out
            code = end.code if isinstance(end.code, int) else 1
    return Done(code, out.getvalue(), err.getvalue())


def program(*args: str | Path) -> list[str | Path]:
    """The command of the same call as a program."""
    return [sys.executable, "-m", "streamguard.cli", *args]


def streamguard_program(*args: str | Path, **options: Any) -> Done:
    """One call in a process of its own, for what has to do with file descriptors."""
    done = subprocess.run(
        program(*args), capture_output=True, timeout=20, env=dict(os.environ), **options
    )
    return Done(done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr))
