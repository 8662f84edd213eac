"""Crops for LAVA as the daemon would hear them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tools.clips import clip
from tools.data import AudioCache, Clip
from tools.lava_data import Crops

pytestmark = pytest.mark.train

FRONT_END = {"trim_db": 40.0, "run_in_seconds": 0.1}


def cache_of(samples: np.ndarray[Any, np.dtype[np.int16]], item: Clip) -> AudioCache:
    return AudioCache(samples, {item.path: (0, len(samples))})


def test_crops_leave_out_silence_at_the_ends_and_are_as_loud_as_the_daemon_makes_them() -> None:
    rng = np.random.default_rng(1)
    speech = (rng.standard_normal(24000) * 500).astype(np.int16)
    silence = np.zeros(8000, np.int16)
    item = clip("known", "a", 0)
    crops = Crops(cache_of(np.concatenate((silence, speech, silence)), item), FRONT_END)
    assert len(crops.trimmed(item)) == pytest.approx(24000, abs=320)
    batch = crops.batch([item, item], 8000, rng)
    assert batch.shape == (2, 8000)
    assert batch.dtype == np.float32
    assert 0.5 < float(np.abs(batch).max()) <= 1.0


def test_a_clip_shorter_than_a_crop_is_repeated_not_padded() -> None:
    rng = np.random.default_rng(1)
    item = clip("known", "a", 0)
    samples = (rng.standard_normal(1600) * 2000).astype(np.int16)
    batch = Crops(cache_of(samples, item), FRONT_END).batch([item], 8000, rng)
    frames = batch.reshape(-1, 400)
    assert bool((np.abs(frames).max(axis=1) > 0.01).all())
