"""How the command lines of ``tools/`` end: 0, or 1 with one line on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable

from streamguard.errors import StreamguardError


def run(main: Callable[[], int]) -> int:
    """The exit code of ``main``; errors that are made for the user are printed, not traced."""
    try:
        return main()
    except (StreamguardError, OSError) as err:
        print(err, file=sys.stderr)
        return 1
