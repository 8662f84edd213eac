"""Recordings one after the other: what cannot be played is told when the others have been."""

from __future__ import annotations

import logging
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from streamguard.errors import AudioFileError, SourceError

logger = logging.getLogger(__name__)


async def play_all(
    source: str,
    paths: Sequence[Path],
    play: Callable[[Path], Awaitable[None]],
    problems: Counter[str],
    *,
    loop: bool,
) -> None:
    """Play every file, for ever with ``loop`` as long as one of them can be played.

    Raises AudioFileError for one file that cannot be played (to its end), SourceError for several.
    """
    while True:
        errors: list[AudioFileError] = []
        for path in paths:
            try:
                await play(path)
            except AudioFileError as err:
                logger.warning("source %s: %s", source, err)
                problems["bad_file"] += 1
                errors.append(err)
        if not loop or len(errors) == len(paths):
            break
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise SourceError(source, "; ".join(str(error) for error in errors))


def check_file(path: Path) -> None:
    """Raises AudioFileError for what is no file with something in it."""
    try:
        status = path.stat()
    except FileNotFoundError as err:
        raise AudioFileError(str(path), "no such file") from err
    except OSError as err:
        raise AudioFileError(str(path), str(err.strerror).lower()) from err
    if stat.S_ISDIR(status.st_mode):
        raise AudioFileError(str(path), "is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise AudioFileError(str(path), "not a regular file")
    if status.st_size == 0:
        raise AudioFileError(str(path), "empty: 0 bytes")
