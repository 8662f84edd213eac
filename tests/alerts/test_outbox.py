from __future__ import annotations

import errno
import logging
import os
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from streamguard.alerts.alert import Kind
from streamguard.alerts.message import Message
from streamguard.alerts.outbox import Outbox, OutboxError, connect
from streamguard.alerts.reserve import Reserve
from streamguard.alerts.suppression import Field, Suppression
from tests.alerts.disks import fragile


def message(alert: str, revision: int, kind: Kind, size: int = 20) -> Message:
    payload = f"{alert}/{revision}".encode().ljust(size, b".")
    return Message(alert, revision, kind, "t/alert", payload, 1000.0 + revision, cause=b"{}")


def life(alert: str, updates: int = 0, *, closed: bool = True) -> list[Message]:
    revisions = [message(alert, 1, Kind.RAISED)]
    revisions += [message(alert, 2 + i, Kind.UPDATED) for i in range(updates)]
    if closed:
        revisions.append(message(alert, 2 + updates, Kind.CLEARED))
    return revisions


def keys(outbox: Outbox) -> list[tuple[str, int]]:
    return [(m.alert_id, m.revision) for m in outbox.queued(10_000)]


@contextmanager
def opened(folder: Path, max_messages: int = 100, **kwargs: Any) -> Iterator[Outbox]:
    outbox = Outbox(folder / "outbox.sqlite3", max_messages, 64 * 1024, **kwargs)
    outbox.open()
    try:
        yield outbox
    finally:
        outbox.close()


def test_messages_leave_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        outbox.write(life("a", 1, closed=False))
        outbox.write(life("b"))
        outbox.write([message("a", 3, Kind.CLEARED)])
        assert keys(outbox) == [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("a", 3)]


def test_what_was_written_is_there_after_a_restart_byte_for_byte(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        outbox.write(life("a"))
        before = outbox.queued(10)
    with opened(tmp_path) as outbox:
        assert outbox.queued(10) == before


def test_delivered_messages_are_gone_and_the_others_stay(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        outbox.write(life("a", 2))
        outbox.delivered(outbox.queued(2)[-1].seq)
        assert keys(outbox) == [("a", 3), ("a", 4)]
        assert outbox.stats().depth == 2
        assert outbox.stats().oldest_utc == 1003.0
    with opened(tmp_path) as outbox:
        assert keys(outbox) == [("a", 3), ("a", 4)]


def test_the_list_of_open_alerts_follows_raised_and_cleared(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        outbox.write([*life("a", 1, closed=False), *life("b")])
        (row,) = outbox.open_alerts()
        assert (row[0], row[2].rstrip(b".")) == ("a", b"a/2")


def test_a_raise_whose_list_entry_fails_is_not_queued_either(tmp_path: Path) -> None:
    """One transaction: half of it is never seen."""
    with opened(tmp_path) as outbox:
        outbox.write(life("a", closed=False))
        outbox.write([message("a", 1, Kind.RAISED)])  # the same id again breaks the list
        assert keys(outbox) == [("a", 1)]
        assert outbox.stats().degraded is not None


def test_above_the_bound_updates_coalesce_and_the_others_never_go(tmp_path: Path) -> None:
    with opened(tmp_path, max_messages=10) as outbox:
        outbox.write([message("a", 1, Kind.RAISED), message("b", 1, Kind.RAISED)])
        for revision in range(2, 40):
            outbox.write([message("a", revision, Kind.UPDATED)])
        assert len(keys(outbox)) <= 10
        assert keys(outbox)[-1] == ("a", 39)
        for number in range(20):
            outbox.write(life(f"x{number}"))
        kinds = [m.kind for m in outbox.queued(1000)]
        assert kinds.count(Kind.RAISED) == 22
        assert kinds.count(Kind.CLEARED) == 20
        dropped = outbox.stats().dropped
        assert dropped is not None
        assert set(dropped) == {"updated"}


def test_the_newest_update_of_an_alert_is_the_one_that_is_kept(tmp_path: Path) -> None:
    with opened(tmp_path, max_messages=10) as outbox:
        outbox.write([message("a", 1, Kind.RAISED), message("b", 1, Kind.RAISED)])
        outbox.write([message("b", 2, Kind.UPDATED)])
        for revision in range(2, 10):
            outbox.write([message("a", revision, Kind.UPDATED)])
        assert keys(outbox) == [("a", 1), ("b", 1), ("b", 2), ("a", 8), ("a", 9)]


def test_a_corrupt_file_is_moved_aside_and_a_new_one_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "outbox.sqlite3").write_bytes(b"this is no database" * 500)
    with caplog.at_level(logging.ERROR), opened(tmp_path) as outbox:
        outbox.write(life("a"))
        assert keys(outbox) == [("a", 1), ("a", 2)]
    assert len(list(tmp_path.glob("outbox.sqlite3.corrupt-*"))) == 1
    assert "is corrupt" in caplog.text


def test_a_file_with_broken_pages_is_moved_aside(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        outbox.write([message(f"a{i}", 1, Kind.RAISED, size=900) for i in range(50)])
    path = tmp_path / "outbox.sqlite3"
    content = bytearray(path.read_bytes())
    content[4096:-4096] = os.urandom(len(content) - 8192)
    path.write_bytes(content)
    with opened(tmp_path) as outbox:
        assert keys(outbox) == []
    assert len(list(tmp_path.glob("outbox.sqlite3.corrupt-*"))) == 1


def test_two_daemons_cannot_share_an_outbox(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(OutboxError, match="in use by another"):
        Outbox(
            tmp_path / "outbox.sqlite3",
            100,
            0,
            connect=lambda path: sqlite3.connect(path, isolation_level=None, timeout=0.05),
        ).open()


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "outbox.sqlite3") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(OutboxError, match="newer version"):
        Outbox(tmp_path / "outbox.sqlite3", 100, 0).open()


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutboxError, match="cannot make its folder"):
        Outbox(tmp_path / "file" / "outbox.sqlite3", 100, 0).open()


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    with opened(tmp_path):
        mode = (tmp_path / "outbox.sqlite3").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600


class FullDisk(sqlite3.Connection):
    """Refuses inserts while ``full``, or while the file ``reserve`` takes the last room."""

    reserve: Path
    full = False
    room_without_reserve = True

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if self.full and sql.startswith("INSERT INTO messages"):
            if self.reserve.exists() or not self.room_without_reserve:
                raise sqlite3.OperationalError("database or disk is full")
        return super().execute(sql, parameters)


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FullDisk]:
    class Disk(FullDisk):
        reserve = tmp_path / "outbox.sqlite3.reserve"

    allocate = os.posix_fallocate

    def fallocate(fd: int, offset: int, size: int) -> None:
        if Disk.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        allocate(fd, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    return Disk


def on(disk: type[FullDisk]) -> Any:
    return lambda path: sqlite3.connect(path, isolation_level=None, factory=disk)


def test_on_a_full_disk_raised_and_cleared_take_the_reserve(
    tmp_path: Path, full_disk: type[FullDisk]
) -> None:
    with opened(tmp_path, connect=on(full_disk)) as outbox:
        assert full_disk.reserve.stat().st_size == 64 * 1024
        outbox.write(life("a", closed=False))
        full_disk.full = True
        outbox.write([message("a", 2, Kind.UPDATED)])
        assert full_disk.reserve.exists(), "an update is not worth the reserve"
        outbox.write([message("a", 3, Kind.CLEARED)])
        assert keys(outbox) == [("a", 1), ("a", 3)]
        stats = outbox.stats()
        assert stats.dropped == {"updated": 1}
        assert stats.degraded == "the disk is full: the reserve of the outbox is in use"


def test_without_any_room_alerts_wait_in_memory_and_are_stored_in_order_later(
    tmp_path: Path, full_disk: type[FullDisk]
) -> None:
    full_disk.room_without_reserve = False
    with opened(tmp_path, connect=on(full_disk)) as outbox:
        full_disk.full = True
        outbox.write(life("a", 1))
        assert keys(outbox) == []
        assert outbox.stats().depth == 2
        full_disk.full = False
        outbox.write(life("b", closed=False))
        assert keys(outbox) == [("a", 1), ("a", 3), ("b", 1)]
        outbox.write(life("c", closed=False))
        assert outbox.stats().degraded is None
        assert full_disk.reserve.exists()


def test_on_a_read_only_disk_alerts_wait_in_memory_until_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = fragile(monkeypatch)
    with opened(tmp_path) as outbox:
        outbox.write(life("a", closed=False))
        disk.broken = True
        outbox.write([message("a", 2, Kind.UPDATED), message("a", 3, Kind.CLEARED)])
        outbox.write(life("b", closed=False))
        assert keys(outbox) == [("a", 1)], "what is stored can still be read"
        stats = outbox.stats()
        assert (stats.depth, stats.dropped) == (3, {"updated": 1})
        assert stats.degraded == "cannot store alerts: attempt to write a readonly database"
        disk.broken = False
        assert keys(outbox) == [("a", 1), ("a", 3), ("b", 1)]
        assert outbox.stats().degraded is None


def test_with_nothing_to_store_a_broken_disk_is_not_taken_for_a_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = fragile(monkeypatch)
    with opened(tmp_path) as outbox:
        outbox.write(life("a"))
        disk.broken = True
        outbox.delivered(outbox.queued(1)[0].seq)
        monkeypatch.setattr(Reserve, "make", lambda self: True)  # it is there, and whole
        assert keys(outbox) == [("a", 2)]
        assert outbox.stats().degraded is not None
        disk.broken = False
        assert keys(outbox) == [("a", 2)]
        assert outbox.stats().degraded is None
    with opened(tmp_path) as outbox:
        assert keys(outbox) == [("a", 2)], "what was delivered is struck off once that can be done"


def test_a_transaction_that_could_not_be_rolled_back_does_not_block_the_next(
    tmp_path: Path,
) -> None:
    class Stuck(sqlite3.Connection):
        stuck = False

        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if Stuck.stuck and sql in ("COMMIT", "ROLLBACK"):
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, parameters)

    def stuck(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, factory=Stuck)

    with opened(tmp_path, connect=stuck) as outbox:
        Stuck.stuck = True
        outbox.write(life("a"))
        Stuck.stuck = False
        assert keys(outbox) == [("a", 1), ("a", 2)]


def test_what_was_never_stored_is_tried_once_more_at_the_end_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = fragile(monkeypatch)
    with opened(tmp_path) as outbox:
        disk.broken = True
        outbox.write(life("a"))
        disk.broken = False
    with opened(tmp_path) as outbox:
        assert keys(outbox) == [("a", 1), ("a", 2)]
        disk.broken = True
        outbox.write(life("b", closed=False))
    assert "alerts never stored: 1" in caplog.text


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full_still_takes_raised_and_cleared(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk)
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this container may not mount")
    try:
        with opened(disk) as outbox:
            outbox.write(life("a", closed=False))
            fill(disk)
            for number in range(12):
                outbox.write([message(f"x{number}", 1, Kind.RAISED, size=2000)])
            outbox.write([message("a", 2, Kind.CLEARED)])
            wanted = [("a", 1), *((f"x{n}", 1) for n in range(12)), ("a", 2)]
            assert keys(outbox) == wanted
            assert outbox.stats().degraded is not None
        with opened(disk) as outbox:
            assert keys(outbox) == wanted
    finally:
        subprocess.run(("umount", disk), check=True)


def test_a_message_whose_mark_fails_is_not_sent_again_by_this_process(tmp_path: Path) -> None:
    class NoDelete(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql.startswith("DELETE FROM messages WHERE seq <="):
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, parameters)

    def no_delete(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, factory=NoDelete)

    with opened(tmp_path, connect=no_delete) as outbox:
        outbox.write(life("a"))
        outbox.delivered(outbox.queued(1)[0].seq)
        assert keys(outbox) == [("a", 2)]
        assert outbox.stats().depth == 1


def test_raised_and_cleared_wait_for_the_disk_and_updates_do_not(tmp_path: Path) -> None:
    levels: list[int] = []

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql == "COMMIT":
                levels.append(super().execute("PRAGMA synchronous").fetchone()[0])
            return super().execute(sql, parameters)

    def watched(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, factory=Watched)

    full, normal = 2, 1
    with opened(tmp_path, connect=watched) as outbox:
        for one in life("a", 1):
            outbox.write([one])
    assert levels == [full, normal, full]


def test_suppress_rules_outlive_a_restart(tmp_path: Path) -> None:
    rule = Suppression("r1", Field.SOURCE, "trunk", "op", "drill", 5000.0)
    with opened(tmp_path) as outbox:
        outbox.add_suppression(rule)
    with opened(tmp_path) as outbox:
        assert outbox.suppressions() == (rule,)
        outbox.remove_suppression("r1")
        assert outbox.suppressions() == ()


def test_the_audit_trail_keeps_who_and_why(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        outbox.audit(1.0, "acknowledge", "op7", "alert1", "called back")
    db = connect(tmp_path / "outbox.sqlite3")
    rows = db.execute("SELECT action, operator, target, note FROM audit").fetchall()
    db.close()
    assert rows == [("acknowledge", "op7", "alert1", "called back")]
