"""What augmentation costs, in milliseconds of one thread: ``python -m tools.augment [RECIPE]``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tools.augment import (
    CODECS,
    Augmenter,
    AugmentSettings,
    code_clip,
    coloured_noise,
    missing_codecs,
    quantise,
)
from tools.augment.settings import RATE_HZ
from tools.command import run
from tools.training import load_recipe

_OFF = AugmentSettings(room=0.0, eq=0.0, band=0.0, noise=0.0, clip=0.0, telephone=0.0)
_EACH = {
    "nothing but the transform, level and grid": _OFF,
    "rooms, all": replace(_OFF, room=1.0),
    "noise, all": replace(_OFF, noise=1.0),
    "converter, all": replace(_OFF, converter=1.0),
    "coarser grid, all": replace(_OFF, requantise=1.0),
    "telephone, all": replace(_OFF, telephone=1.0),
    "speed, all": replace(_OFF, speed=1.0),
    "pitch, all": replace(_OFF, pitch=1.0),
    "shift, all": replace(_OFF, shift=1.0),
    "packet loss, all": replace(_OFF, loss=1.0),
    "the defaults": AugmentSettings(),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path, nargs="?", help="measure its mixture, too")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    samples = int(options.seconds * RATE_HZ)
    # Speech-like in its spectrum and its pauses: encoders spend less on white noise.
    batch = coloured_noise(np.full(options.batch, 1.0), samples, rng)
    batch *= (0.3 / np.abs(batch).max(axis=1, keepdims=True)).astype(np.float32)
    batch[:, samples // 3 : samples // 2] *= 0.01
    batch = quantise(batch)
    each = dict(_EACH)
    if options.recipe:
        each[str(options.recipe)] = AugmentSettings(**load_recipe(options.recipe)["augment"])
    for name, settings in each.items():
        augmenter = Augmenter(settings, [batch[0]], [batch[1, :4000]])
        print(f"{_cost_ms(lambda: augmenter(batch, rng), options.repeats):8.1f} ms  {name}")  # noqa: B023 # called at once
    for codec in CODECS:
        if codec not in missing_codecs():
            cost = _cost_ms(lambda: code_clip(batch[2], codec, rng), 4 * options.repeats)  # noqa: B023 # same
            print(f"{cost:8.1f} ms  codec {codec}, one crop")
    return 0


def _cost_ms(work: Callable[[], object], repeats: int) -> float:
    """Mean processor time of this thread, after one run that does not count."""
    work()
    began = time.thread_time()
    for _ in range(repeats):
        work()
    return 1000.0 * (time.thread_time() - began) / repeats


if __name__ == "__main__":
    raise SystemExit(run(main))
