"""``streamguard demo``: daemon, broker, sender and subscriber, each in its own process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from rich.console import Console

from streamguard.console import complain, say_json
from streamguard.demo.broker import running_broker
from streamguard.demo.legs import DemoError, DemoLeg
from streamguard.demo.report import AlertSeen, DemoReport, LegOutcome, exact_quantiles
from streamguard.demo.sender import running_sender
from streamguard.demo.subscriber import Received, running_subscriber
from streamguard.demo.table import LegRow, LiveView
from streamguard.demo.voices import build_legs, own_recording, own_voice
from streamguard.resources import packaged_config
from streamguard.telemetry.latency import Quantiles
from streamguard.verdict.scores import State

HOST = "127.0.0.1"
POLL_S = 0.5
READY_S = 60.0
STOP_S = 15.0
SETTLE_S = 5.0
"""After the last packet: the goodbyes and the cleared alerts have arrived by then."""


def demo(*, as_json: bool, plain: bool, human: Path | None, record_s: int | None) -> int:
    """About 45 s; 0 when everything ran, whatever the models said."""
    console = Console(stderr=as_json, force_terminal=False if plain else None)
    voice, note = None, ""
    if human is not None:
        voice, note = own_recording(human)
    elif record_s is not None:
        console.print(f"Please speak for {record_s} s ...")
        voice, note = own_voice(float(record_s))
    console.print("Preparing the voices ...")
    legs = build_legs(voice, note)
    for leg in legs:
        console.print(f"  {leg.name}: {leg.note}", highlight=False, soft_wrap=True)
    report = asyncio.run(DemoRun(legs, console).run())
    if as_json:
        say_json(report.as_dict())
    else:
        console.print(report.as_text(), highlight=False, markup=False, soft_wrap=True)
    return 0


@dataclass
class DemoRun:
    """One run: what was sent, seen and heard back."""

    legs: Sequence[DemoLeg]
    console: Console
    alerts: dict[str, list[AlertSeen]] = field(default_factory=dict)
    alert_lines: list[str] = field(default_factory=list)
    """The alerts in words, as they were shown."""
    rows: tuple[LegRow, ...] = ()
    """The table as it was last shown with a live leg in it."""
    subscriber_s: list[float] = field(default_factory=list)

    async def run(self) -> DemoReport:
        with tempfile.TemporaryDirectory(prefix="streamguard-demo-") as name:
            async with contextlib.AsyncExitStack() as stack:
                broker_port = await stack.enter_async_context(running_broker())
                config, ports, http = _configuration(Path(name), broker_port, self.legs)
                subscriber = await stack.enter_async_context(running_subscriber(broker_port))
                status = await stack.enter_async_context(_running_daemon(config, http))
                view = stack.enter_context(LiveView(self.console))
                sender = await stack.enter_async_context(running_sender(self.legs, ports))
                listening = asyncio.create_task(
                    self._listen(subscriber.messages(), view), name="demo-listen"
                )
                try:
                    before = await status.get()
                    await self._watch(status, view, sender.wait())
                    after = await status.get()
                finally:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)
        return self._report(before, after)

    async def _listen(self, messages: AsyncIterator[Received], view: LiveView) -> None:
        async for message in messages:
            try:
                seen = AlertSeen.from_payload(message.payload)
                data = message.payload["data"]
                source = str(data["source"])
                spoken_utc = datetime.fromisoformat(str(data["last_seen"])).timestamp()
            except (KeyError, TypeError, ValueError):
                complain(f"not an alert of ours: {message.topic}")
                continue
            self.alerts.setdefault(source, []).append(seen)
            if seen.kind != "cleared":
                self.subscriber_s.append(message.utc - spoken_utc)
            said = data["explanation"]["summary"] if data.get("explanation") else seen.state
            when = f"{seen.kind} (revision {seen.revision}) at {seen.stream_offset_s:.1f} s"
            line = f"{source}: {when}: {said}"
            self.alert_lines.append(line)
            view.alert(line)

    async def _watch(self, status: _Status, view: LiveView, sent: Any) -> None:
        sending = asyncio.ensure_future(sent)
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        while deadline is None or loop.time() < deadline:
            legs = _by_source(await status.get())
            rows = tuple(_row(leg, legs.get(leg.name)) for leg in self.legs)
            view.update(rows)
            if any(row.level_dbfs > -120.0 for row in rows):
                self.rows = rows
            if sending.done() and deadline is None:
                if sending.result() != 0:
                    raise DemoError("the sender of RTP packets failed; its message is above")
                deadline = loop.time() + SETTLE_S
            await asyncio.sleep(POLL_S)

    def _report(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> DemoReport:
        legs = _by_source(after)
        audio_s = float(after["audio_s"]) - float(before["audio_s"])
        busy_s = float(after["inference"]["busy_s"]) - float(before["inference"]["busy_s"])
        cpu_s = float(after["cpu_s"]) - float(before["cpu_s"])
        return DemoReport(
            legs=tuple(
                _outcome(leg, legs.get(leg.name), self.alerts.get(leg.name, []))
                for leg in self.legs
            ),
            verdict_latency=_quantiles(after, "verdict"),
            subscriber_latency=exact_quantiles(self.subscriber_s),
            realtime_factor=round(busy_s / audio_s, 4) if audio_s else 0.0,
            # Per second of each leg's audio, so legs of different lengths weigh as they should.
            cpu_per_leg=round(cpu_s / audio_s, 4) if audio_s else 0.0,
        )


class _Status:
    """The daemon's ``/status``."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._base = base

    async def get(self) -> dict[str, Any]:
        async with self._session.get(f"{self._base}/status") as response:
            body: dict[str, Any] = await response.json()
            return body

    async def ready(self) -> bool:
        try:
            async with self._session.get(f"{self._base}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


@contextlib.asynccontextmanager
async def _running_daemon(config: Path, http: str) -> AsyncIterator[_Status]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamguard.cli", "run", str(config)
    )
    try:
        timeout = aiohttp.ClientTimeout(total=5.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            status = _Status(session, f"http://{http}")
            try:
                async with asyncio.timeout(READY_S):
                    while not await status.ready():
                        if process.returncode is not None:
                            raise DemoError(
                                f"the daemon ended with {process.returncode}; its message is above"
                            )
                        await asyncio.sleep(0.1)
            except TimeoutError as err:
                raise DemoError(f"the daemon was not ready within {READY_S:.0f} s") from err
            yield status
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def _configuration(
    folder: Path, broker_port: int, legs: Sequence[DemoLeg]
) -> tuple[Path, list[int], str]:
    """The packaged demo.yaml with the ports that are free here: (file, RTP ports, HTTP address)."""
    settings: dict[str, Any] = yaml.safe_load(packaged_config("demo").read_text(encoding="utf-8"))
    settings["mqtt"]["port"] = broker_port
    settings["outbox"] = {"path": str(folder / "outbox.sqlite3")}
    host, _, port = str(settings["http"]["listen"]).rpartition(":")
    settings["http"]["listen"] = f"{host}:{_free_port(int(port), socket.SOCK_STREAM)}"
    ports: dict[str, int] = {}
    for source in settings["sources"]:
        source["ports"] = [_free_port(source["ports"][0], socket.SOCK_DGRAM)]
        ports[source["name"]] = source["ports"][0]
    missing = [leg.name for leg in legs if leg.name not in ports]
    if missing:
        raise DemoError(f"configs/demo.yaml has no source named {', '.join(missing)}")
    file = folder / "demo.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file, [ports[leg.name] for leg in legs], settings["http"]["listen"]


def _free_port(wanted: int, kind: socket.SocketKind) -> int:
    """``wanted``, or the next free one (RTP: an even port with a free odd one above it)."""
    rtp = kind is socket.SOCK_DGRAM
    for port in range(wanted, wanted + 2000, 100):
        with contextlib.ExitStack() as stack:
            try:
                for number in (port, port + 1) if rtp else (port,):
                    probe = stack.enter_context(socket.socket(socket.AF_INET, kind))
                    if not rtp:
                        # A listener may follow one whose connections still linger; so may we.
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((HOST, number))
            except OSError:
                continue
            return port
    raise DemoError(f"no free port from {wanted} on; what holds them? (ss -lnp)")


def _by_source(status: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The newest leg of each source."""
    return {leg["source"]: leg for leg in status["legs"]}


def _row(leg: DemoLeg, seen: Mapping[str, Any] | None) -> LegRow:
    if seen is None:
        return LegRow(leg.name, leg.truth.value, -120.0, 0.0, 0, {}, None, State.UNKNOWN, "")
    level = seen["level_dbfs"]
    scored = int(seen["windows"]["scored"])
    return LegRow(
        name=leg.name,
        truth=leg.truth.value,
        level_dbfs=-120.0 if level is None or not seen["live"] else float(level),
        net_speech_s=float(seen["net_speech_s"]),
        windows_scored=scored,
        rejected=seen["windows"]["rejected"],
        llr=float(seen["llr"]) if scored else None,
        state=State(seen["state"]),
        attribution=_words(seen["attribution"]),
    )


def _words(attribution: Mapping[str, Any]) -> str:
    """``tts, vits``, or why there is no name."""
    words = []
    for question in ("technology", "generator"):
        outcome = attribution[question]
        if isinstance(outcome, dict):
            words.append(str(outcome["label"]))
        elif outcome is not None:
            words.append(f"{question} not named ({outcome})")
    return ", ".join(words)


def _label(outcome: Any) -> str | None:
    return str(outcome["label"]) if isinstance(outcome, dict) else None


def _outcome(
    leg: DemoLeg, seen: Mapping[str, Any] | None, alerts: Sequence[AlertSeen]
) -> LegOutcome:
    if seen is None:
        raise DemoError(f"the daemon has heard nothing of the leg {leg.name}")
    scored = int(seen["windows"]["scored"])
    return LegOutcome(
        name=leg.name,
        truth=leg.truth,
        state=State(seen["state"]),
        llr=float(seen["llr"]) if scored else None,
        p_spoof=float(seen["p_spoof"]) if scored else None,
        technology=_label(seen["attribution"]["technology"]),
        generator=_label(seen["attribution"]["generator"]),
        windows_scored=scored,
        windows_rejected=seen["windows"]["rejected"],
        alerts=tuple(alerts),
        turn_s=leg.turn_s,
    )


def _quantiles(status: Mapping[str, Any], stage: str) -> Quantiles | None:
    ms = status["latency_ms"].get(stage)
    if ms is None:
        return None
    count = sum(int(leg["windows"]["scored"]) for leg in status["legs"])
    return Quantiles(count, ms["p50"] / 1000, ms["p95"] / 1000, ms["p99"] / 1000)
