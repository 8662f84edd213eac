"""What cannot start says why in one line and ends, before anything else has happened."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon, free_rtp_port, free_tcp_port, rtp_source, streamguard

pytestmark = pytest.mark.timeout(60)


def _refusal(daemon: Daemon, status: int) -> str:
    """The last line of a run that ended by itself with this status."""
    done = streamguard("run", daemon.config)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_daemon_that_cannot_have_what_it_needs_says_what_and_exits(
    tmp_path: Path, accuser: str
) -> None:
    source = rtp_source("trunk", free_rtp_port())
    first = Daemon(tmp_path / "first", detector=accuser, sources=[source])
    other = Daemon(tmp_path / "other", detector=accuser, sources=[source])
    with first:
        # The outbox is of one daemon: two would close each other's alerts.
        other.write(outbox=first.sections["outbox"])
        assert "outbox.sqlite3" in _refusal(other, 1)
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        other.write(
            http={"listen": f"127.0.0.1:{port}"},
            outbox={"path": str(tmp_path / "outbox.sqlite3")},
        )
        assert f"http.listen 127.0.0.1:{port}: " in _refusal(other, 1)
    other.write(http={"listen": f"127.0.0.1:{free_tcp_port()}"}, detector=str(tmp_path / "none"))
    assert str(tmp_path / "none") in _refusal(other, 1)
    other.write(detector=accuser, nod="node1")
    line = 1 + other.config.read_text().splitlines().index("nod: node1")
    assert f"{other.config}:{line}: nod: " in _refusal(other, 2)
