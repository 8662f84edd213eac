"""What a crop holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamguard.audio.level import RunningPeak
from tools.crops import Crops, normalised, spoken
from tools.data import AudioCache, Clip

CLIP = Clip(
    path="",
    set="core",
    label="bonafide",
    technology="human",
    generator="human",
    source_repo="a",
    speaker="",
    language="",
    orig_sr=16000,
    seconds=1.0,
    detail="",
    sha256="",
)


def _crops(*lengths: int) -> Crops:
    rng = np.random.default_rng(0)
    pieces = [rng.integers(-9000, 9000, length).astype(np.int16) for length in lengths]
    stops = np.cumsum(lengths)
    spans = {
        str(n): (int(stop - length), int(stop))
        for n, (stop, length) in enumerate(zip(stops, lengths, strict=True))
    }
    clips = [replace(CLIP, path=str(n)) for n in range(len(lengths))]
    return Crops(clips, AudioCache(np.concatenate(pieces), spans), 240)


def test_clips_without_a_whole_hop_are_left_out() -> None:
    assert [clip.path for clip in _crops(7999, 8000, 20000).clips] == ["1", "2"]


def test_a_short_clip_leaves_its_last_hops_empty_and_invalid() -> None:
    crops = _crops(20000)
    samples, valid = crops.take(np.array([0]), 4, np.random.default_rng(0))
    assert samples.shape == (1, 240 + 4 * 8000)
    assert valid.tolist() == [[True, True, False, False]]
    assert not samples[0, 240 + 16000 :].any()
    assert samples[0, 240 : 240 + 16000].std() > 0.1


def test_crops_begin_anywhere_and_bring_their_true_context() -> None:
    crops = _crops(60000)
    seen = set()
    for seed in range(5):
        samples, _ = crops.take(np.array([0]), 2, np.random.default_rng(seed))
        seen.add(samples[0, 240:260].tobytes())
        assert samples[0, :240].any()
    assert len(seen) == 5


def test_pauses_are_not_spoken() -> None:
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(3 * 8000).astype(np.float32)
    samples[8000:16000] *= 0.01
    assert spoken(samples).tolist() == [True, False, True]
    assert spoken(np.zeros(16000, np.float32)).tolist() == [True, True]


def test_training_levels_are_those_of_the_live_front_end() -> None:
    rng = np.random.default_rng(3)
    clip = (rng.standard_normal(240 + 5 * 8000) * np.linspace(0.01, 0.3, 40240)).astype(np.float32)
    (offline,) = normalised(clip[None])
    live = RunningPeak()
    padded = np.concatenate((clip, np.zeros(80 + 160, np.float32)))
    hops = [
        live.process(padded[at : at + 8000], padded[at + 8000 : at + 8160])
        for at in range(0, 5 * 8000, 8000)
    ]
    np.testing.assert_array_equal(offline[: 5 * 8000], np.concatenate(hops))
