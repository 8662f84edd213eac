"""CORES: every descriptor against librosa's own, frame by frame and pooled."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from models.gated_fusion.cores import (
    CEPSTRA,
    CHROMAS,
    FFT,
    LEAST_MEL_POWER,
    LEFT_CONTEXT,
    NAMES,
    SAMPLE_RATE_HZ,
    SHIFT_SAMPLES,
    SIZE,
    Cores,
    chroma_filterbank,
    mel_filterbank,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

with warnings.catch_warnings():
    # Its dependencies use what Python deprecates.
    warnings.simplefilter("ignore")
    librosa = pytest.importorskip("librosa", reason="librosa is the oracle here (extra 'test')")

pytestmark = [pytest.mark.train, pytest.mark.timeout(90)]
FRAMES = 40
FRAMED = {"n_fft": FFT, "hop_length": SHIFT_SAMPLES, "center": False}
HERTZ = {"sr": SAMPLE_RATE_HZ, "n_fft": FFT}


def _speechlike(frames: int = FRAMES, seed: int = 3) -> Floats:
    """A buzz whose pitch and level move, over noise: within 80 dB everywhere, peak 1."""
    rng = np.random.default_rng(seed)
    time = np.arange(LEFT_CONTEXT + SHIFT_SAMPLES * frames) / SAMPLE_RATE_HZ
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 2.3 * time)) / SAMPLE_RATE_HZ
    buzz = sum(np.sin(k * phase) / k for k in range(1, 30))
    voice = buzz * (0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * time))
    samples = voice + 0.05 * rng.standard_normal(len(time))
    return np.asarray(samples / np.abs(samples).max(), np.float32)


@pytest.fixture(scope="module")
def expected() -> dict[str, Floats]:
    """librosa's descriptors of the signal, ``[values, frames]``."""
    samples = _speechlike()
    magnitude = np.abs(librosa.stft(samples, **FRAMED))
    power = magnitude**2
    mel = librosa.feature.melspectrogram(S=power, sr=SAMPLE_RATE_HZ)
    decibels = librosa.power_to_db(mel, amin=LEAST_MEL_POWER, top_db=None)
    cepstra = librosa.feature.mfcc(S=decibels, n_mfcc=CEPSTRA)
    of_samples = {"frame_length": FFT, "hop_length": SHIFT_SAMPLES, "center": False}
    return {
        "mfcc": cepstra,
        "delta": librosa.feature.delta(cepstra),
        "delta 2": librosa.feature.delta(cepstra, order=2),
        "chroma": librosa.feature.chroma_stft(S=power, n_chroma=CHROMAS, tuning=0.0, **HERTZ),
        "zero-crossing rate": librosa.feature.zero_crossing_rate(samples, **of_samples),
        "rms": librosa.feature.rms(y=samples, **of_samples),
        "spectral centroid": librosa.feature.spectral_centroid(S=magnitude, **HERTZ),
        "spectral bandwidth": librosa.feature.spectral_bandwidth(S=magnitude, **HERTZ),
        "spectral roll-off": librosa.feature.spectral_rolloff(S=magnitude, **HERTZ),
        "spectral contrast": librosa.feature.spectral_contrast(S=magnitude, **HERTZ),
        "spectral flatness": librosa.feature.spectral_flatness(S=magnitude),
    }


@pytest.fixture(scope="module")
def ours() -> dict[str, Floats]:
    """The same of ``Cores``, ``[values, frames]``; derivatives on the inner frames."""
    cepstra, slopes, others = (
        part[0].numpy().T for part in Cores().frames(torch.from_numpy(_speechlike())[None])
    )
    values = {"mfcc": cepstra, "delta": slopes[:CEPSTRA], "delta 2": slopes[CEPSTRA:]}
    first = 0
    for name, size in (
        ("chroma", CHROMAS),
        ("zero-crossing rate", 1),
        ("rms", 1),
        ("spectral centroid", 1),
        ("spectral bandwidth", 1),
        ("spectral roll-off", 1),
        ("spectral contrast", 7),
        ("spectral flatness", 1),
    ):
        values[name] = others[first : first + size]
        first += size
    assert first == len(others)
    return values


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("mfcc", 1e-3),  # of hundreds of decibels
        ("chroma", 1e-5),
        ("zero-crossing rate", 0.0),
        ("rms", 1e-6),
        ("spectral centroid", 0.05),  # hertz
        ("spectral bandwidth", 0.05),
        ("spectral roll-off", 0.0),
        ("spectral contrast", 0.02),  # decibels of single bins
        ("spectral flatness", 1e-6),
    ],
)
def test_each_frame_has_librosas_value(
    expected: dict[str, Floats], ours: dict[str, Floats], name: str, tolerance: float
) -> None:
    assert ours[name].shape == expected[name].shape
    np.testing.assert_allclose(ours[name], expected[name], atol=tolerance, rtol=1e-5)


@pytest.mark.parametrize("name", ["delta", "delta 2"])
def test_derivatives_are_librosas_on_every_frame_with_four_neighbours_on_either_side(
    expected: dict[str, Floats], ours: dict[str, Floats], name: str
) -> None:
    inner = expected[name][:, 4:-4]
    assert ours[name].shape == inner.shape
    np.testing.assert_allclose(ours[name], inner, atol=1e-3, rtol=1e-4)


def test_the_descriptor_is_the_mean_of_the_frames_in_the_order_of_the_names(
    expected: dict[str, Floats],
) -> None:
    pooled = Cores()(torch.from_numpy(_speechlike())[None])[0].numpy()
    assert pooled.shape == (SIZE,) == (66,)
    for name, values in expected.items():
        frames = values[:, 4:-4] if name.startswith("delta") else values
        first = CEPSTRA if name == "delta" else 2 * CEPSTRA if name == "delta 2" else None
        if first is None:
            first = next(i for i, given in enumerate(NAMES) if given.startswith(name))
        np.testing.assert_allclose(
            pooled[first : first + len(values)], frames.mean(axis=1), atol=0.02, rtol=1e-4
        )


def test_the_filter_banks_are_librosas() -> None:
    mel = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=FFT, n_mels=128)
    np.testing.assert_allclose(mel_filterbank(), mel.T, atol=1e-7)
    chroma = librosa.filters.chroma(sr=SAMPLE_RATE_HZ, n_fft=FFT, n_chroma=CHROMAS, tuning=0.0)
    np.testing.assert_allclose(chroma_filterbank(), chroma.T, atol=1e-6)


def test_hops_add_up_to_the_window_but_for_the_derivatives_at_their_joints() -> None:
    """20 frames to a hop, so that the mean of two hops is the mean of all frames."""
    cores, samples = Cores(), torch.from_numpy(_speechlike())[None]
    whole = cores(samples)[0]
    hops = [cores(samples[:, i * 8000 : i * 8000 + LEFT_CONTEXT + 8000])[0] for i in range(2)]
    mean = torch.stack(hops).mean(dim=0)
    same = [i for i, name in enumerate(NAMES) if "delta" not in name]
    torch.testing.assert_close(mean[same], whole[same], atol=1e-2, rtol=1e-5)


def test_silence_has_finite_descriptors() -> None:
    """As librosa leaves a frame without energy as it is."""
    pooled = Cores()(torch.zeros(1, LEFT_CONTEXT + 8000))[0]
    assert bool(torch.isfinite(pooled).all())
    assert float(pooled[NAMES.index("spectral flatness")]) == pytest.approx(1.0)
    assert float(pooled[NAMES.index("spectral centroid")]) == 0.0
