"""The durable outbox: alerts wait on disk until the broker has acknowledged them.

Synchronous; owned by one thread (``desk.py`` has it). One SQLite file in WAL mode: a raising, the
state that it came from and the list of open alerts are one transaction, fsynced; an `updated` is
written without waiting for the disk. Messages leave in the order in which they came. Once open, a
disk that fails (full, read-only, broken) is a state, not an error: memory keeps what matters.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamguard.alerts.alert import Kind
from streamguard.alerts.message import Message
from streamguard.alerts.reserve import Reserve
from streamguard.alerts.suppression import Field, Suppression
from streamguard.errors import StreamguardError

log = logging.getLogger(__name__)

_USER_VERSION = 1
_AUDIT_ROWS_MAX = 10_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, alert_id TEXT NOT NULL, revision INTEGER NOT NULL,
    kind TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL, created_utc REAL NOT NULL);
CREATE INDEX IF NOT EXISTS messages_alert ON messages (alert_id, seq);
CREATE TABLE IF NOT EXISTS open_alerts (
    alert_id TEXT PRIMARY KEY, topic TEXT NOT NULL, cause BLOB NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS suppressions (
    rule_id TEXT PRIMARY KEY, field TEXT NOT NULL, value TEXT NOT NULL, operator TEXT NOT NULL,
    reason TEXT NOT NULL, expires_utc REAL NOT NULL);
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at_utc REAL NOT NULL, action TEXT NOT NULL,
    operator TEXT NOT NULL, target TEXT NOT NULL, note TEXT NOT NULL);
"""

Connect = Callable[[Path], sqlite3.Connection]


class OutboxError(StreamguardError):
    """The outbox cannot be used at all (not ours to write, in use, made by a newer version)."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"outbox {path}: {reason}")


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """What the metrics ask of the outbox."""

    depth: int = 0
    """Messages waiting, in memory and on disk."""
    oldest_utc: float | None = None
    dropped: Counter[str] | None = None
    """By kind: coalesced away, or not stored because the disk was full."""
    degraded: str | None = None
    """Why alerts cannot be stored now, or that the reserve is in use."""


def connect(path: Path) -> sqlite3.Connection:
    """Autocommit (transactions are explicit), locked for this process alone."""
    return sqlite3.connect(path, isolation_level=None, timeout=2.0)


class Outbox:
    """See the module. Call everything from the thread that called :meth:`open`."""

    def __init__(
        self, path: Path, max_messages: int, reserve_bytes: int, connect: Connect = connect
    ) -> None:
        self._path = path
        self._max_messages = max_messages
        self._reserve = Reserve(path.with_name(path.name + ".reserve"), reserve_bytes)
        self._connect = connect
        self._db: sqlite3.Connection | None = None
        self._unsaved: list[Message] = []
        self._delivered_seq = 0
        self._degraded: str | None = None
        self._dropped: Counter[str] = Counter()

    def open(self) -> None:
        """Open or create; a corrupt file is moved aside. Raises OutboxError."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as err:
            raise OutboxError(self._path, f"cannot make its folder: {err.strerror}") from err
        try:
            self._open_database()
        except sqlite3.DatabaseError as err:
            self.close()
            if _is_unavailable(err):
                raise OutboxError(self._path, _explain(err)) from err
            self._move_aside(err)
            try:
                self._open_database()
            except sqlite3.DatabaseError as again:
                self.close()
                raise OutboxError(self._path, _explain(again)) from again
        if not self._reserve.make():
            self._degrade("no room for the reserve of the outbox")

    def close(self) -> None:
        """Try once more what could not be stored; what then still cannot is lost, and logged."""
        if self._db is None:
            return
        if self._unsaved:
            self._flush()
        if self._unsaved:
            log.error("outbox %s: alerts never stored: %d", self._path, len(self._unsaved))
        try:
            self._db.close()
        except sqlite3.Error as err:
            log.error("outbox %s: closing: %s", self._path, err)
        self._db = None

    def write(self, messages: Sequence[Message]) -> None:
        """Store in order, all or none. What cannot be stored is kept in memory and tried again."""
        self._unsaved.extend(messages)
        self._flush()

    def queued(self, limit: int) -> list[Message]:
        """The oldest messages that are not delivered."""
        if self._unsaved or self._degraded is not None:
            self._flush()
        try:
            rows = self._open_db.execute(
                "SELECT alert_id, revision, kind, topic, payload, created_utc, seq FROM messages"
                " WHERE seq > ? ORDER BY seq LIMIT ?",
                (self._delivered_seq, limit),
            ).fetchall()
        except sqlite3.Error as err:
            self._degrade(f"cannot read alerts: {err}")
            return []
        return [Message(a, r, Kind(k), t, bytes(p), c, seq=s) for a, r, k, t, p, c, s in rows]

    def delivered(self, seq: int) -> None:
        """The broker has everything up to ``seq``."""
        # Kept in memory too: if the disk is full the row stays, and must not be sent again.
        self._delivered_seq = max(self._delivered_seq, seq)
        try:
            # Losing this on a power cut means sending twice under the same id, which is allowed.
            self._open_db.execute("PRAGMA synchronous = NORMAL")
            self._strike_delivered()
        except sqlite3.Error as err:
            self._degrade(f"cannot mark alerts as delivered: {err}")

    def open_alerts(self) -> list[tuple[str, str, bytes]]:
        """(alert_id, topic, last payload) of every alert that is not closed. For the start."""
        rows = self._read("SELECT alert_id, topic, payload FROM open_alerts ORDER BY rowid")
        return [(alert_id, topic, bytes(payload)) for alert_id, topic, payload in rows]

    def forget_open(self, alert_id: str) -> None:
        """Strike an alert off the list without a message (its record was unreadable)."""
        self._try(
            "the list of open alerts", "DELETE FROM open_alerts WHERE alert_id = ?", (alert_id,)
        )

    def suppressions(self) -> tuple[Suppression, ...]:
        """For the start."""
        rows = self._read(
            "SELECT rule_id, field, value, operator, reason, expires_utc FROM suppressions"
        )
        return tuple(Suppression(i, Field(f), v, o, r, e) for i, f, v, o, r, e in rows)

    def add_suppression(self, rule: Suppression) -> None:
        self._try(
            "a suppress rule",
            "INSERT OR REPLACE INTO suppressions VALUES (?, ?, ?, ?, ?, ?)",
            (rule.rule_id, rule.field, rule.value, rule.operator, rule.reason, rule.expires_utc),
        )

    def remove_suppression(self, rule_id: str) -> None:
        self._try("a suppress rule", "DELETE FROM suppressions WHERE rule_id = ?", (rule_id,))

    def audit(self, at_utc: float, action: str, operator: str, target: str, note: str) -> None:
        """Who did what; the newest ten thousand entries are kept."""
        self._try(
            "the audit trail",
            "INSERT INTO audit (at_utc, action, operator, target, note) VALUES (?, ?, ?, ?, ?)",
            (at_utc, action, operator, target, note),
        )
        self._try(
            "the audit trail",
            "DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?",
            (_AUDIT_ROWS_MAX,),
        )

    def stats(self) -> OutboxStats:
        try:
            depth, oldest = self._open_db.execute(
                "SELECT count(*), min(created_utc) FROM messages WHERE seq > ?",
                (self._delivered_seq,),
            ).fetchone()
        except sqlite3.Error as err:
            self._degrade(f"cannot read alerts: {err}")
            depth, oldest = 0, None
        if oldest is None and self._unsaved:
            oldest = self._unsaved[0].created_utc
        return OutboxStats(
            depth + len(self._unsaved), oldest, Counter(self._dropped), self._degraded
        )

    @property
    def _open_db(self) -> sqlite3.Connection:
        if self._db is None:
            raise OutboxError(self._path, "is not open")
        return self._db

    def _open_database(self) -> None:
        # Call ids are private: the file is for its owner only, from its first byte on.
        with suppress(FileExistsError, OSError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self._db = db = self._connect(self._path)
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA wal_autocheckpoint = 256")
        (check,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if check != "ok":
            raise sqlite3.DatabaseError(check)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > _USER_VERSION:
            self.close()
            raise OutboxError(self._path, f"was written by a newer version (format {version})")
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {_USER_VERSION}")

    def _move_aside(self, err: sqlite3.DatabaseError) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = self._path.with_name(f"{self._path.name}.corrupt-{stamp}")
        try:
            self._path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        except OSError as failed:
            raise OutboxError(self._path, f"is corrupt and cannot be moved: {failed}") from failed
        log.error(
            "the outbox %s is corrupt (%s): moved to %s, starting with an empty one; alerts that"
            " waited in it are not sent",
            self._path,
            err,
            aside.name,
        )

    def _read(self, sql: str) -> list[Any]:
        """What we cannot start without. Raises OutboxError."""
        try:
            return self._open_db.execute(sql).fetchall()
        except sqlite3.Error as err:
            raise OutboxError(self._path, f"cannot be read: {err}") from err

    def _try(self, what: str, sql: str, values: tuple[object, ...]) -> None:
        """Write something that an alert does not depend on."""
        try:
            self._open_db.execute(sql, values)
        except sqlite3.Error as err:
            self._degrade(f"cannot store {what}: {err}")

    def _flush(self) -> None:
        if self._degraded is not None and not self._reserve.make():
            # What little room there is belongs to raised and cleared.
            self._shed_updates()
            self._checkpoint()
        try:
            self._store(self._unsaved)
        except sqlite3.Error as err:
            self._shed_updates()
            self._degrade(f"cannot store alerts: {err}")
            if self._unsaved:
                self._use_reserve()
            return
        self._unsaved.clear()
        if self._degraded is not None and self._is_well():
            log.warning("the outbox %s can store alerts again", self._path)
            self._degraded = None

    def _use_reserve(self) -> None:
        if not self._reserve.release():
            return
        self._checkpoint()
        try:
            self._store(self._unsaved)
        except sqlite3.Error as err:
            self._degrade(f"cannot store alerts: {err}")
            return
        self._unsaved.clear()
        self._degrade("the disk is full: the reserve of the outbox is in use")

    def _is_well(self) -> bool:
        """Whether everything can be written again: the reserve, and the database."""
        if not self._reserve.make():
            return False
        try:
            self._strike_delivered()
            # There may have been nothing to strike; this writes in any case.
            self._open_db.execute(f"PRAGMA user_version = {_USER_VERSION}")
        except sqlite3.Error as err:
            self._degrade(f"cannot store alerts: {err}")
            return False
        return True

    def _strike_delivered(self) -> None:
        self._open_db.execute("DELETE FROM messages WHERE seq <= ?", (self._delivered_seq,))

    def _checkpoint(self) -> None:
        """Give the log's room back: a row takes several pages there, and one in the database."""
        with suppress(sqlite3.Error):
            self._open_db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _store(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        db = self._open_db
        lasting = any(message.kind is not Kind.UPDATED for message in messages)
        db.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
        db.execute("BEGIN IMMEDIATE")
        try:
            self._make_room(len(messages))
            for message in messages:
                self._insert(message)
            db.execute("COMMIT")
        except sqlite3.Error:
            # A full disk may have rolled back already.
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _insert(self, message: Message) -> None:
        db, m = self._open_db, message
        db.execute(
            "INSERT INTO messages (alert_id, revision, kind, topic, payload, created_utc)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (m.alert_id, m.revision, m.kind.value, m.topic, m.payload, m.created_utc),
        )
        if m.kind is Kind.RAISED:
            db.execute(
                "INSERT INTO open_alerts VALUES (?, ?, ?, ?)",
                (m.alert_id, m.topic, m.cause, m.payload),
            )
        elif m.kind is Kind.UPDATED:
            db.execute(
                "UPDATE open_alerts SET payload = ? WHERE alert_id = ?", (m.payload, m.alert_id)
            )
        else:
            db.execute("DELETE FROM open_alerts WHERE alert_id = ?", (m.alert_id,))

    def _make_room(self, wanted: int) -> None:
        """Above the bound: first `updated` that a later revision replaces, then the oldest ones."""
        db = self._open_db
        (depth,) = db.execute("SELECT count(*) FROM messages").fetchone()
        if depth + wanted <= self._max_messages:
            return
        gone = db.execute(
            "DELETE FROM messages WHERE kind = 'updated' AND EXISTS (SELECT 1 FROM messages later"
            " WHERE later.alert_id = messages.alert_id AND later.seq > messages.seq)"
        ).rowcount
        excess = depth - gone + wanted - self._max_messages
        if excess > 0:
            gone += db.execute(
                "DELETE FROM messages WHERE seq IN (SELECT seq FROM messages"
                " WHERE kind = 'updated' ORDER BY seq LIMIT ?)",
                (excess,),
            ).rowcount
        self._dropped[Kind.UPDATED.value] += gone

    def _shed_updates(self) -> None:
        """In memory only raised and cleared wait, and of these no more than the bound."""
        kept = [m for m in self._unsaved if m.kind is not Kind.UPDATED]
        self._dropped[Kind.UPDATED.value] += len(self._unsaved) - len(kept)
        for lost in kept[: -self._max_messages]:
            self._dropped[lost.kind.value] += 1
        self._unsaved = kept[-self._max_messages :]

    def _degrade(self, reason: str) -> None:
        if self._degraded != reason:
            log.error("outbox %s: %s", self._path, reason)
        self._degraded = reason


def _is_unavailable(err: sqlite3.DatabaseError) -> bool:
    """Locked, not writable, cannot be opened: the file may be perfectly good."""
    return isinstance(err, sqlite3.OperationalError)


def _explain(err: sqlite3.DatabaseError) -> str:
    if "locked" in str(err):
        return "is in use by another streamguard; give each daemon its own outbox.path"
    return f"cannot be opened: {err}"
