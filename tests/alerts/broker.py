"""A real mosquitto on a free port, and mosquitto_sub as a reader that is not ours.

Everything here is synchronous; from a coroutine call it through ``asyncio.to_thread``.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

WAIT_S = 10.0


def need(*programs: str) -> None:
    """Skip the test where one of these is not installed."""
    for program in programs:
        if shutil.which(_where(program)) is None:
            pytest.skip(f"{program} is not installed (Debian: mosquitto, mosquitto-clients)")


def _where(program: str) -> str:
    # Debian keeps the broker in /usr/sbin, which is not on everybody's PATH.
    return shutil.which(program) or f"/usr/sbin/{program}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Certificates:
    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    """An authority, a certificate for localhost and one for a client, with openssl."""
    need("openssl")
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*args: str) -> None:
        subprocess.run(("openssl", *args), cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        *("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2"),
        *("-subj", "/CN=streamguard test authority"),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    (folder / "san.cnf").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("localhost", "node1"):
        openssl(
            *("req", "-new", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr"),
            *("-subj", f"/CN={name}"),
        )
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile", "san.cnf"),
        )
    return Certificates(
        folder / "ca.pem",
        folder / "localhost.pem",
        folder / "localhost.key",
        folder / "node1.pem",
        folder / "node1.key",
    )


class Broker:
    """One mosquitto; may be stopped and started again on the same port with the same sessions.

    Args:
        password: Of the user ``streamguard``; without it everybody may connect.
        certificates: Makes the line TLS and asks clients for a certificate.
        acl: Text of an access list.
    """

    def __init__(
        self,
        folder: Path,
        *,
        password: str | None = None,
        certificates: Certificates | None = None,
        acl: str | None = None,
        port: int | None = None,
    ) -> None:
        need("mosquitto")
        self.port = port or free_port()
        self.certificates = certificates
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            "per_listener_settings false",
            # As root mosquitto would become another user, who may not read our files.
            *(["user root"] if os.geteuid() == 0 else []),
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {folder}/",
            "log_dest stderr",
            f"allow_anonymous {'false' if password else 'true'}",
        ]
        if password is not None:
            need("mosquitto_passwd")
            passwords = folder / "passwords"
            subprocess.run(
                ("mosquitto_passwd", "-b", "-c", passwords, "streamguard", password),
                check=True,
                capture_output=True,
            )
            lines.append(f"password_file {passwords}")
        if certificates is not None:
            lines += [
                f"cafile {certificates.ca}",
                f"certfile {certificates.server_cert}",
                f"keyfile {certificates.server_key}",
                "require_certificate true",
            ]
        if acl is not None:
            (folder / "acl").write_text(acl)
            lines.append(f"acl_file {folder / 'acl'}")
        self._conf = folder / "mosquitto.conf"
        self._conf.write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        """Return when it accepts connections."""
        assert self._process is None
        with (self._folder / "mosquitto.log").open("ab") as output:
            self._process = subprocess.Popen(
                (_where("mosquitto"), "-c", self._conf), stdout=output, stderr=output
            )
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"mosquitto did not start: {self.log()}")
                time.sleep(0.02)

    def stop(self) -> None:
        """Ask it to end; sessions and retained messages are kept."""
        self._end(signal.SIGTERM)

    def forget(self) -> None:
        """While stopped: lose sessions and retained messages."""
        (self._folder / "mosquitto.db").unlink()

    def freeze(self) -> None:
        """Keep its connections open and answer nothing, until :meth:`thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        return (self._folder / "mosquitto.log").read_text(errors="replace")

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self._end(signal.SIGTERM)


@dataclass(frozen=True)
class Received:
    """A message as mosquitto_sub printed it."""

    topic: str
    retained: bool
    user_properties: str
    content_type: str
    payload: str
    utc: float
    """POSIX seconds at which it came."""

    @property
    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def key(self) -> tuple[str, int]:
        """(alert_id, revision) of an alert."""
        data = self.json["data"]
        return data["alert_id"], data["revision"]

    @property
    def kind(self) -> str:
        return str(self.json["data"]["kind"])


@dataclass
class Subscriber:
    """mosquitto_sub in a durable session: the broker keeps for it what comes while it is away."""

    port: int
    topic: str = "#"
    options: tuple[str, ...] = ()
    messages: list[Received] = field(default_factory=list)
    _queue: queue.Queue[Received] = field(default_factory=queue.Queue)
    _process: subprocess.Popen[str] | None = None
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Return when the subscription stands."""
        need("mosquitto_sub", "stdbuf")
        self._process = subprocess.Popen(
            (
                # Line by line, or its debug line about the subscription stays in a buffer.
                *("stdbuf", "-oL"),
                *("mosquitto_sub", "-h", "localhost", "-p", str(self.port), "-V", "5", "-q", "1"),
                *("-c", "-x", "600", "-i", f"reader-{self.port}-{id(self)}", "-d"),
                *("-t", self.topic, "-F", "|%U\t%t\t%r\t%P\t%C\t%p", *self.options),
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        subscribed = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(subscribed,), daemon=True)
        self._thread.start()
        if not subscribed.wait(WAIT_S):
            self.stop()
            pytest.fail("mosquitto_sub could not subscribe")

    def wait_for(
        self, wanted: Callable[[list[Received]], bool], timeout_s: float = WAIT_S
    ) -> list[Received]:
        """All messages so far, once they are as wanted."""
        deadline = time.monotonic() + timeout_s
        while not wanted(self.messages):
            try:
                message = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"not received in {timeout_s} s; got {self.messages}")
            self.messages.append(message)
        return list(self.messages)

    def settle(self, quiet_s: float = 0.3) -> list[Received]:
        """All messages, once none has come for a while."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.messages.append(self._queue.get(timeout=quiet_s))
        return list(self.messages)

    def alerts(self, count: int, timeout_s: float = WAIT_S) -> list[Received]:
        """The alerts, once there are so many."""

        def select(messages: list[Received]) -> list[Received]:
            return [m for m in messages if m.topic.endswith("/alert")]

        return select(self.wait_for(lambda got: len(select(got)) >= count, timeout_s))

    def stop(self) -> None:
        if self._process is None or self._thread is None:
            return
        self._process.terminate()
        self._process.wait(WAIT_S)
        self._thread.join(WAIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def _read(self, subscribed: threading.Event) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("|"):
                utc, topic, retained, properties, content, payload = (
                    line[1:].rstrip("\n").split("\t", 5)
                )
                self._queue.put(
                    Received(topic, retained == "1", properties, content, payload, float(utc))
                )
            elif "SUBACK" in line:
                subscribed.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
