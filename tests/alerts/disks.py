"""Disks that fail on demand, under SQLite and under the outbox's own files."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Any

import pytest

_WRITES = ("BEGIN", "INSERT", "DELETE", "PRAGMA user_version =", "PRAGMA wal_checkpoint")


class FragileDisk:
    """All well at first."""

    broken = False
    """Nothing can be written, created or removed, as after ``errors=remount-ro`` of ext4."""
    unreadable = False
    """Rows of tables cannot be read."""


def fragile(monkeypatch: pytest.MonkeyPatch) -> FragileDisk:
    """A disk under every database and file from now on, which the test may break and mend."""
    disk = FragileDisk()

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if disk.broken and sql.startswith(_WRITES):
                raise sqlite3.OperationalError("attempt to write a readonly database")
            if disk.unreadable and sql.startswith("SELECT"):
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, parameters)

    real_connect, real_unlink, real_exists = sqlite3.connect, Path.unlink, Path.exists

    def connect(path: Path, **options: Any) -> sqlite3.Connection:
        return real_connect(path, factory=Connection, **options)

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if disk.broken:
            raise OSError(errno.EROFS, "Read-only file system", str(self))
        real_unlink(self, missing_ok)

    def exists(self: Path) -> bool:
        if disk.broken:
            raise OSError(errno.EIO, "Input/output error", str(self))
        return real_exists(self)

    monkeypatch.setattr(sqlite3, "connect", connect)
    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.setattr(Path, "exists", exists)
    return disk
