"""The near end of ``bench --source rtp``: the daemon itself, in a process of its own.

Beside serving it tells its parent what its windows were and how late its event loop is; the rest is
in ``/status``.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from streamguard.audio.frames import RawBlock
from streamguard.bench.machine import hold_to
from streamguard.bench.recording import Recording
from streamguard.bench.steered import SteeredDaemon
from streamguard.clock import SystemClock
from streamguard.config import load_config
from streamguard.demo.child import end_of_input, tell
from streamguard.inference.handover import ScorerLike
from streamguard.inference.pair import open_models
from streamguard.inference.scorer import HopResult, Models
from streamguard.process import loop_factory
from streamguard.scoring import pair_names
from streamguard.sources.rtp_socket import allow_many_sockets

REPORT_S = 0.5
LAG_S = 0.01
"""How often the lag of the loop is sampled."""


class _Deaf:
    """In the place of the scorer, for what ingest alone can carry: takes blocks, says nothing."""

    counts: Mapping[str, int] = {}
    attribution_counts: Mapping[str, int] = {}

    def process(
        self, blocks: Sequence[RawBlock], *, shed_attribution: bool = False
    ) -> list[HopResult]:
        return []

    def close_leg(self, leg: str, *, shed_attribution: bool = False) -> list[HopResult]:
        return []

    def replace_models(self, models: Models) -> None:
        models.close()

    def warm_up(self) -> None:
        """Nothing to load."""

    def close(self) -> None:
        """Nothing to let go of."""


class _IngestOnly(SteeredDaemon):
    """Everything but the networks: sockets, RTP, intake, and the hand-over to the thread."""

    def _first_scorer(self) -> ScorerLike:
        self._models = open_models(pair_names(self._config))
        return _Deaf()


async def _tell_what_is_heard(recording: Recording) -> None:
    """Verdicts, and what every timer and socket of the loop waits (sampled); until cancelled."""
    loop = asyncio.get_running_loop()
    recording.is_on = True
    while True:
        lags_s: list[float] = []
        while len(lags_s) * LAG_S < REPORT_S:
            due = loop.time() + LAG_S
            await asyncio.sleep(LAG_S)
            lags_s.append(max(0.0, loop.time() - due))
        heard = recording.take()
        tell(
            "heard",
            lags_ms=_ms(lags_s),
            verdicts_ms=_ms(heard.latencies_s),
            rejected=heard.rejected,
            overload=heard.overload,
            lost_s=round(heard.lost_s, 4),
        )


def _ms(seconds: Sequence[float]) -> list[float]:
    return [round(1000 * one, 2) for one in seconds]


async def _serve(config_path: Path, *, share: float, ingest_only: bool) -> None:
    config = load_config(config_path)
    kind = _IngestOnly if ingest_only else SteeredDaemon
    daemon = kind(config, config_path, share=share)
    recording = daemon.observation = Recording(daemon.metrics, SystemClock())
    heard = asyncio.create_task(_tell_what_is_heard(recording), name="what is heard")
    serving = asyncio.create_task(daemon.serve(), name="daemon")
    over = asyncio.create_task(end_of_input(), name="end of input")
    await asyncio.wait({serving, over}, return_when=asyncio.FIRST_COMPLETED)
    heard.cancel()
    over.cancel()
    daemon.stop()
    await serving


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m streamguard.bench.rtp_daemon")
    parser.add_argument("config", type=Path)
    parser.add_argument("--share", type=float, default=0.0, help="of legs that lean to spoof")
    parser.add_argument("--ingest-only", action="store_true")
    parser.add_argument("--cores", help="that it is held to")
    options = parser.parse_args(argv)
    hold_to(options.cores)
    allow_many_sockets()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(options.config, share=options.share, ingest_only=options.ingest_only))


if __name__ == "__main__":
    main()
