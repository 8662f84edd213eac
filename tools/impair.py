"""Impairment player: loss, bursts, reordering, jitter and odd senders, deterministic by seed.

``python -m tools.impair --table`` prints how far the daemon's verdicts on impaired calls agree with
those on the clean ones: calls of synthesised speech and, with ``--data``, of validation clips.
``--send HOST:PORT`` plays a recording over UDP in real time, ``--pcap FILE`` writes it as a
captured call; ``--impair NAME`` says what happens to it, ``--list`` what there is.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streamguard.analysis import analyst
from streamguard.config import Config
from streamguard.demo.legs import load_samples
from streamguard.sources.settings import FileSettings
from tools.command import run
from tools.impairment.catalogue import BY_NAME, IMPAIRMENTS
from tools.impairment.play import capture, send
from tools.impairment.stream import clean_stream
from tools.impairment.table import as_markdown, rows
from tools.impairment.voices import human, recorded, synthesised
from tools.progress import progress_bar


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--table", action="store_true", help="print the table, as Markdown")
    what.add_argument("--list", action="store_true", help="print the impairments")
    what.add_argument("--send", metavar="HOST:PORT", help="play over UDP in real time")
    what.add_argument("--pcap", type=Path, help="write a capture")
    parser.add_argument("file", type=Path, nargs="?", help="recording for --send and --pcap")
    parser.add_argument("--impair", choices=sorted(BY_NAME), default="clean", metavar="NAME")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--detector", default="", help="bundle for --table, by name or folder")
    parser.add_argument("--data", type=Path, help="collection whose validation clips are heard too")
    parser.add_argument("--calls", type=int, default=24, help="calls made of clips of --data")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    if options.list:
        for one in BY_NAME.values():
            print(f"{one.name:18} {one.text}")
        return 0
    if options.table:
        print(asyncio.run(_table(options)))
        return 0
    if options.file is None:
        parser.error("--send and --pcap need a recording")
    stream = clean_stream(load_samples(options.file), np.random.default_rng(options.seed))
    if not stream:
        parser.error(f"{options.file}: shorter than a packet of 20 ms")
    arrivals = BY_NAME[options.impair].apply(stream, np.random.default_rng(options.seed + 1))
    print(f"{arrivals.sent} packets sent, {arrivals.lost} of them lost", file=sys.stderr)
    if options.pcap is not None:
        capture(options.pcap, arrivals.packets)
        return 0
    host, _, port = options.send.rpartition(":")
    if not host or not port.isdigit():
        parser.error(f"--send {options.send}: HOST:PORT is needed")
    late_s = send(arrivals.packets, (host.strip("[]"), int(port)))
    print(f"at most {1000 * late_s:.1f} ms behind the plan", file=sys.stderr)
    return 0


async def _table(options: argparse.Namespace) -> str:
    voices = [*synthesised(), *human()]
    made = ", ".join(voice.name for voice in voices)
    clips = 0
    if options.data is not None:
        with tempfile.TemporaryDirectory() as cache:
            found_clips = list(recorded(options.data, Path(cache), options.calls, options.seed))
        clips = len(found_clips)
        voices += found_clips
    detector = {"detector": options.detector} if options.detector else {}
    sources = (FileSettings(name="impaired", paths=(Path("-"),)),)
    config = Config(sources=sources, attribution=None, **detector)
    with progress_bar() as bar:
        task = bar.add_task("calls", total=(1 + len(IMPAIRMENTS)) * len(voices))
        async with analyst(config) as models:
            found = await rows(models, voices, options.seed, heard=lambda: bar.advance(task))
            facts = models.judging.detector
    also = f", and {clips} of joined validation clips" if clips else ""
    head = (
        f"Detector {facts.name} {facts.version} ({facts.sha256[:12]}), seed {options.seed}, "
        f"{len(voices)} calls: {made}{also}."
    )
    states = ", ".join(f"{count} {state}" for state, count in found[0].states.items())
    return f"{head}\nThe clean calls end as: {states}.\n\n{as_markdown(found)}"


if __name__ == "__main__":
    raise SystemExit(run(main))
