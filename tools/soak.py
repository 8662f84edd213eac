"""Soak: the daemon in this process, many looped recordings at once, and what it costs over time.

``python -m tools.soak`` plays an accelerated hour on 50 legs (one call after the other on each) as
fast as they are consumed, publishes to an embedded broker, and prints memory, files, threads and
queues every few seconds. It fails when memory after the warm-up grows by more than the bound.

Without ``--detector`` the test detector that says "spoof" of everything is used: it costs next to
nothing, and each call goes the whole way of an alert.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from streamguard.app import Daemon
from streamguard.config import Config
from streamguard.demo.broker import HOST, running_broker
from tools.progress import progress_bar

WARM_UP_SHARE = 0.2
"""Of the samples: caches, pools and arenas fill before memory can be called flat."""
EDGE_SHARE = 0.2
"""Of the samples after the warm-up, at either end, whose medians are compared."""
SENTENCE = "The quick brown fox jumps over the lazy dog, and nobody in the room was surprised. "


@dataclass(frozen=True, slots=True)
class Sample:
    """The process at one moment."""

    at_s: float
    audio_s: float
    """Of all legs together."""
    rss_mb: float
    files: int
    threads: int
    tasks: int
    queued_hops: float
    outbox: float
    alerts: int
    """Raised so far."""

    def __str__(self) -> str:
        return (
            f"{self.at_s:7.0f} s  audio {self.audio_s / 3600:7.2f} h  rss {self.rss_mb:7.1f} MB  "
            f"files {self.files:4d}  threads {self.threads:3d}  tasks {self.tasks:4d}  "
            f"hops waiting {self.queued_hops:4.0f}  outbox {self.outbox:5.0f}  alerts {self.alerts}"
        )


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _sample(daemon: Daemon, started: float) -> Sample:
    def gauge(name: str) -> float:
        return daemon.metrics.registry.get_sample_value(f"streamguard_{name}") or 0.0

    return Sample(
        at_s=time.monotonic() - started,
        audio_s=daemon.observation.audio_seconds,
        rss_mb=_rss_mb(),
        files=len(os.listdir("/proc/self/fd")),
        threads=threading.active_count(),
        tasks=len(asyncio.all_tasks()),
        queued_hops=gauge("inference_queue_depth"),
        outbox=gauge("mqtt_outbox_depth"),
        alerts=int(
            sum(
                sample.value
                for metric in daemon.metrics.alerts_total.collect()
                for sample in metric.samples
                if sample.name.endswith("_total") and sample.labels["kind"] == "raised"
            )
        ),
    )


def growth_mb(samples: Sequence[Sample]) -> float:
    """Median memory of the last samples less that of the first ones after the warm-up."""
    steady = samples[int(WARM_UP_SHARE * len(samples)) :]
    edge = max(1, int(EDGE_SHARE * len(steady)))
    first = statistics.median(sample.rss_mb for sample in steady[:edge])
    last = statistics.median(sample.rss_mb for sample in steady[-edge:])
    return last - first


async def soak(
    config: Config, *, audio_s: float, limit_s: float, every_s: float, bar: Progress
) -> list[Sample]:
    """Run until so much audio of all legs together was judged, or the time is up."""
    daemon = Daemon(config, Path("soak.yaml"))
    samples: list[Sample] = []
    task = bar.add_task("audio (s)", total=round(audio_s))
    started = time.monotonic()

    async def watch() -> None:
        while True:
            await asyncio.sleep(every_s)
            samples.append(_sample(daemon, started))
            bar.console.print(str(samples[-1]), highlight=False, soft_wrap=True)
            bar.update(task, completed=round(samples[-1].audio_s))
            if samples[-1].audio_s >= audio_s or samples[-1].at_s >= limit_s:
                daemon.stop()
                return

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        await daemon.serve()
        watching.cancel()
    return samples


def make_voices(folder: Path) -> list[Path]:
    """Calls of different lengths by espeak-ng."""
    voices = []
    for sentences in (3, 5, 8):
        path = folder / f"voice-{sentences}.wav"
        subprocess.run(["espeak-ng", "-w", str(path), SENTENCE * sentences], check=True)
        voices.append(path)
    return voices


def make_config(
    folder: Path, detector: str, voices: Sequence[Path], legs: int, port: int
) -> Config:
    """One looped file source per leg; each begins with another voice."""
    sources = [
        {
            "name": f"leg-{index}",
            "type": "file",
            "paths": [str(voices[(index + k) % len(voices)]) for k in range(len(voices))],
            "speed": 0,
            "loop": True,
        }
        for index in range(legs)
    ]
    return Config.model_validate(
        {
            "sources": sources,
            "detector": detector,
            "attribution": None,
            "mqtt": {"host": HOST, "port": port, "protocol": "3.1.1"},
            "outbox": {"path": str(folder / "outbox.sqlite3")},
            "http": {"listen": None},
            "log": {"level": "warning"},
        }
    )


async def _run(options: argparse.Namespace, folder: Path) -> list[Sample]:
    detector = options.detector
    if detector is None:
        from tests.e2e.bundles import opinionated_bundle

        detector = str(opinionated_bundle(folder / "opinionated", 4.0))
    voices = [Path(path) for path in options.speech] or make_voices(folder)
    with progress_bar() as bar:
        async with running_broker() as port:
            return await soak(
                make_config(folder, detector, voices, options.legs, port),
                audio_s=options.hours * 3600 * options.legs,
                limit_s=60 * options.minutes if options.minutes else float("inf"),
                every_s=options.every,
                bar=bar,
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 when memory grew, or nothing was judged."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--legs", type=int, default=50)
    parser.add_argument("--hours", type=float, default=1.0, help="of audio, on each leg")
    parser.add_argument("--minutes", type=float, help="stop after so much time in any case")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two samples")
    parser.add_argument("--max-growth-mb", type=float, default=20.0)
    parser.add_argument("--detector", help="name or folder of a bundle")
    parser.add_argument("--speech", action="append", default=[], help="recording(s) to loop")
    options = parser.parse_args(argv)
    logging.captureWarnings(True)
    with tempfile.TemporaryDirectory() as folder:
        samples = asyncio.run(_run(options, Path(folder)))
    if len(samples) < 5:
        print(f"only {len(samples)} samples: nothing can be said; run longer")
        return 1
    grown = growth_mb(samples)
    last = samples[-1]
    print(
        f"{last.audio_s / 3600:.2f} h of audio on {options.legs} legs, {last.alerts} alerts in "
        f"{last.at_s:.0f} s ({last.audio_s / last.at_s:.0f} times real time); memory after the "
        f"warm-up: {grown:+.1f} MB (bound: {options.max_growth_mb:g} MB), "
        f"most {max(s.rss_mb for s in samples):.1f} MB"
    )
    return 0 if grown <= options.max_growth_mb and last.audio_s > 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
