"""A real daemon in a process of its own, and the voices that are played to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.alerts.broker import Received, need

WAIT_S = 20.0

EAGER: dict[str, Any] = {
    # Calls of tests are short: an alert after 3 s of speech, and news of it every second.
    "alerts": {"min_update_interval_s": 1.0, "update_llr_step": 0.01},
}


def free_rtp_ports(count: int) -> list[int]:
    """Even UDP ports with a free odd one above each."""
    found: list[int] = []
    for port in range(42000 + 2 * (os.getpid() % 2000), 60000, 2):
        with ExitStack() as stack:
            try:
                for number in (port, port + 1):
                    probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free RTP port")


def free_rtp_port() -> int:
    return free_rtp_ports(1)[0]


def free_tcp_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], Any], text: str, timeout_s: float = WAIT_S) -> Any:
    """The first true answer; fails with ``text`` when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        answer = what()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout_s:.0f} s for {text}")


class Daemon:
    """``streamguard run`` on a configuration made of the given sections."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.http_port = free_tcp_port()
        self.config = folder / "config.yaml"
        self.log = folder / "daemon.log"
        self.sections: dict[str, Any] = {
            "node": "node1",
            "http": {"listen": f"127.0.0.1:{self.http_port}"},
            "outbox": {"path": str(folder / "outbox.sqlite3")},
            "attribution": None,
            **EAGER,
            **sections,
        }
        self.write()
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, **sections: Any) -> None:
        """Change the configuration file; SIGHUP makes the daemon read it."""
        self.sections.update(sections)
        self.config.write_text(yaml.safe_dump(self.sections, sort_keys=False))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    @contextmanager
    def launched(self) -> Iterator[Self]:
        """As ``with daemon``, for one that will not be ready."""
        try:
            self.launch()
            yield self
        finally:
            self._end()

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def start(self) -> None:
        """Return when it is ready."""
        self.launch()
        wait_for(self._ready, "the daemon to be ready")

    def launch(self) -> None:
        """Start it and wait for nothing."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamguard.cli", "run", str(self.config)],
                stdout=log,
                stderr=log,
            )

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the daemon ended: {self.log.read_text()}")
        return self.get("readyz")[0] == 200

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body; status 0 where nobody answers."""
        try:
            url = f"http://127.0.0.1:{self.http_port}/{path}"
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as err:
            with err:
                return err.code, err.read()
        except OSError:
            return 0, b""

    def status(self) -> dict[str, Any]:
        code, body = self.get("status")
        assert code == 200
        status: dict[str, Any] = json.loads(body)
        return status

    def legs(self, source: str) -> list[dict[str, Any]]:
        return [leg for leg in self.status()["legs"] if leg["source"] == source]

    def leg(self, source: str) -> dict[str, Any]:
        """The newest leg of a source, once there is one."""
        found: list[dict[str, Any]] = wait_for(lambda: self.legs(source), f"a leg of {source}")
        return found[-1]

    def wait_for_leg(
        self,
        source: str,
        wanted: Callable[[dict[str, Any]], bool],
        text: str,
        timeout_s: float = WAIT_S,
    ) -> dict[str, Any]:
        """The newest leg of a source, once it is as wanted."""

        def look() -> dict[str, Any] | None:
            legs = self.legs(source)
            return legs[-1] if legs and wanted(legs[-1]) else None

        found: dict[str, Any] = wait_for(look, text, timeout_s)
        return found

    def metrics(self, name: str) -> dict[tuple[str, ...], float]:
        """Values of a metric by its labels' values, in the order of the labels' names."""
        code, body = self.get("metrics")
        assert code == 200
        return {
            tuple(sample.labels[key] for key in sorted(sample.labels)): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
            if sample.name == f"streamguard_{name}"
        }

    def wait_for_log(self, text: str) -> str:
        """The first line of the log with this text."""

        def look() -> str | None:
            lines = self.log.read_text().splitlines()
            return next((line for line in lines if text in line), None)

        line: str = wait_for(look, f"{text!r} in the log")
        return line

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        os.kill(self._process.pid, number)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """``kill -9``: it has no time for anything."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(timeout=WAIT_S)


def streamguard(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a verb of the command line to its end."""
    command = [sys.executable, "-m", "streamguard.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)


def make_speech(folder: Path, seconds: float) -> Path:
    """Espeak-ng's voice as a 16 kHz WAV of this length; synthetic, whatever a detector says."""
    need("espeak-ng", "ffmpeg")
    raw, path = folder / "espeak.wav", folder / f"speech-{seconds:g}.wav"
    text = "The quick brown fox jumps over the lazy dog, and nobody in the room was surprised. "
    subprocess.run(["espeak-ng", "-w", str(raw), text * 12], check=True)
    command = ["ffmpeg", "-v", "error", "-y", "-stream_loop", "-1", "-i", str(raw)]
    command += ["-t", str(seconds), "-ar", "16000", "-ac", "1", str(path)]
    subprocess.run(command, check=True)
    return path


@contextmanager
def ffmpeg_call(
    speech: Path, port: int, encoder: str = "pcm_mulaw"
) -> Iterator[subprocess.Popen[bytes]]:
    """ffmpeg, playing a file as RTP at real-time pace, a packet every 20 ms."""
    need("ffmpeg")
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(speech)]
    command += ["-af", "aresample=8000,asetnsamples=n=160:p=0,arealtime", "-c:a", encoder]
    with _playing([*command, "-f", "rtp", f"rtp://127.0.0.1:{port}?pkt_size=172"]) as peer:
        yield peer


@contextmanager
def gstreamer_call(speech: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """GStreamer, playing a file as RTP A-law at real-time pace."""
    need("gst-launch-1.0")
    command = ["gst-launch-1.0", "-q", "filesrc", f"location={speech}", "!", "wavparse", "!"]
    command += ["audioconvert", "!", "audioresample", "!", "audio/x-raw,rate=8000,channels=1", "!"]
    command += ["alawenc", "!", "rtppcmapay", "max-ptime=20000000", "min-ptime=20000000", "!"]
    with _playing([*command, "udpsink", "host=127.0.0.1", f"port={port}", "sync=true"]) as peer:
        yield peer


@contextmanager
def _playing(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    peer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield peer
    finally:
        peer.kill()
        peer.wait()


def rtp_source(name: str, port: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "rtp", "ports": [port], "inactivity_s": 2.0, **more}


def mqtt(port: int, **more: Any) -> dict[str, Any]:
    """The broker of a test, without the waits that spare a real one."""
    quick = {"backoff_first_s": 0.2, "backoff_cap_s": 0.4, "will_delay_s": 0}
    return {"host": "127.0.0.1", "port": port, **quick, **more}


def by_alert(messages: Sequence[Received]) -> dict[str, list[Received]]:
    """Alerts by id, each revision at its first arrival (delivery is at least once)."""
    alerts: dict[str, list[Received]] = {}
    seen: set[tuple[str, int]] = set()
    for message in messages:
        if message.topic.endswith("/alert") and message.key not in seen:
            seen.add(message.key)
            alerts.setdefault(message.key[0], []).append(message)
    return alerts


def check_life(alert: Sequence[Received]) -> None:
    """From raised to cleared: revisions 1 to n in the order of arrival, n bodies of one call."""
    assert [message.key[1] for message in alert] == list(range(1, len(alert) + 1))
    kinds = [message.kind for message in alert]
    assert kinds == ["raised", *["updated"] * (len(alert) - 2), "cleared"]
    assert len({message.json["data"]["call_id"] for message in alert}) == 1
    assert not any(message.retained for message in alert)
