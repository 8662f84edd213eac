"""Room on the disk that is kept for when there is none left."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)


class Reserve:
    """A file of a given size. Nothing here raises: a disk that fails has no reserve."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    def make(self) -> bool:
        """Whether it is there (again)."""
        try:
            if self._path.exists() and self._path.stat().st_size == self._size:
                return True
            with self._path.open("wb") as file:
                if self._size:
                    os.posix_fallocate(file.fileno(), 0, self._size)
        except OSError:
            self._remove()
            return False
        return True

    def release(self) -> bool:
        """Give its room back; False if it was not there, or if no file can be removed now."""
        if not self._remove():
            return False
        log.warning("the reserve %s of %d bytes is released", self._path, self._size)
        return True

    def _remove(self) -> bool:
        with suppress(OSError):
            self._path.unlink()
            return True
        return False
