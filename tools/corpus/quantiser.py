"""Codecs whose codebooks are learnt: residual vector quantisation of mel patches and of the MDCT.

Both resynthesise from learnt codes at a few kbit/s, as neural codecs do, with linear transforms in
place of networks; neither is one of the conventional codecs that leave speech bona fide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, signal, sparse

from tools.corpus.griffin_lim import describe_grid, draw_grid, rebuild_phase
from tools.corpus.method import Copied, Copier, log_uniform, pick
from tools.corpus.spectra import FLOOR, RATE_HZ, FloatArray, MelGrid, Signal

if TYPE_CHECKING:
    import numpy.typing as npt

_LEARN_VECTORS = 10000
_ROUNDS = 8
_STAGES = 8
_WORDS = 256


@dataclass(frozen=True, slots=True)
class ResidualQuantiser:
    """Codebooks ``[words, size]``, each of what the ones before it leave (Juang and Gray, 1982)."""

    codebooks: tuple[FloatArray, ...]

    @classmethod
    def learn(
        cls, vectors: FloatArray, stages: int, words: int, rng: np.random.Generator
    ) -> ResidualQuantiser:
        """From ``[vectors, size]``; at most 10,000 of them are looked at."""
        chosen = rng.permutation(len(vectors))[:_LEARN_VECTORS]
        left = vectors[chosen].astype(np.float32)
        books: list[FloatArray] = []
        for _ in range(stages):
            books.append(_means(left, min(words, len(left)), rng))
            left = left - books[-1][nearest(left, books[-1])]
        return cls(tuple(books))

    def __call__(self, vectors: FloatArray, stages: int) -> FloatArray:
        """The vectors as the first ``stages`` codebooks give them back."""
        out = np.zeros_like(vectors)
        for book in self.codebooks[:stages]:
            out += book[nearest(vectors - out, book)]
        return out

    def bits(self, stages: int) -> float:
        """Bits of a vector."""
        return float(sum(np.log2(len(book)) for book in self.codebooks[:stages]))


def _means(vectors: FloatArray, words: int, rng: np.random.Generator) -> FloatArray:
    """``[words, size]`` by Lloyd's algorithm; a word that nothing is near to stays where it is."""
    book = vectors[rng.permutation(len(vectors))[:words]]
    for _ in range(_ROUNDS):
        members = nearest(vectors, book)
        rows = (np.ones(len(vectors), np.float32), (members, np.arange(len(vectors))))
        sums = sparse.csr_array(rows, shape=(words, len(vectors))) @ vectors
        count = np.bincount(members, minlength=words)[:, None]
        book = np.where(count > 0, sums / np.maximum(count, 1), book).astype(np.float32)
    return book


def nearest(vectors: FloatArray, book: FloatArray) -> npt.NDArray[np.intp]:
    """``[vectors]``: the index of the nearest word of each."""
    return np.asarray((np.square(book).sum(axis=1) - 2 * vectors @ book.T).argmin(axis=1))


def prepare_mel_codec(speech: Sequence[Signal], rng: np.random.Generator) -> Copier:
    """Four codecs over different mel grids; each copy draws one, its rate and its phase."""
    codecs = [_learn_mel_codec(speech, rng) for _ in range(4)]

    def mel_codec(samples: Signal, rng: np.random.Generator) -> Copied:
        grid, patch, quantiser = pick(rng, codecs)
        spectra = grid.stft.forward(samples)
        rows = _patches(np.log(grid.forward(np.abs(spectra)) + FLOOR), patch)
        level = _level(rows)
        stages = int(rng.integers(2, _STAGES + 1))
        coded = (quantiser(rows - level, stages) + level).reshape(-1, len(grid.filters))
        mel = np.exp(coded[: len(spectra)]).astype(np.float32)
        magnitude = (
            grid.pseudo_inverse(mel) if rng.random() < 0.5 else grid.non_negative_inverse(mel, 6)
        )
        iterations = round(log_uniform(rng, 6, 32))
        kept = pick(rng, (0.0, 0.0, rng.uniform(0.2, 0.8)))
        turns = (1 - kept) * rng.uniform(-np.pi, np.pi, magnitude.shape)
        phase = np.angle(spectra) + turns.astype(np.float32)
        copy = rebuild_phase(grid.stft, magnitude, phase, iterations, 0.9, len(samples))
        rate = quantiser.bits(stages) * RATE_HZ / (grid.stft.hop * patch)
        drawn = {"stages": stages, "patch": patch, "bit_s": round(rate), "phase_kept": kept}
        return copy, {**drawn, "iterations": iterations, **describe_grid(grid)}

    return mel_codec


def _learn_mel_codec(
    speech: Sequence[Signal], rng: np.random.Generator
) -> tuple[MelGrid, int, ResidualQuantiser]:
    grid, patch = draw_grid(rng), int(rng.integers(1, 4))
    vectors: list[FloatArray] = []
    for samples in speech:
        rows = _patches(np.log(grid.forward(np.abs(grid.stft.forward(samples))) + FLOOR), patch)
        vectors.append(rows - _level(rows))
    return grid, patch, ResidualQuantiser.learn(np.concatenate(vectors), _STAGES, _WORDS, rng)


def _level(rows: FloatArray) -> float:
    """Of the loud part of a clip: its mean would say how much silence the clip has."""
    return float(np.quantile(rows.mean(axis=1), 0.9))


def _patches(log_mel: FloatArray, count: int) -> FloatArray:
    """``[ceil(frames / count), count * mels]``; the last frame is repeated to fill."""
    missing = -len(log_mel) % count
    filled = np.pad(log_mel, ((0, missing), (0, 0)), mode="edge")
    return filled.reshape(len(filled) // count, -1).astype(np.float32)


class Mdct:
    """The modified discrete cosine transform of ``size`` coefficients a frame, sine window."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._window = np.sin(np.pi * (np.arange(2 * size) + 0.5) / (2 * size)).astype(np.float32)

    def forward(self, samples: Signal) -> FloatArray:
        """``[len(samples) // size + 2, size]``."""
        size, half = self.size, self.size // 2
        padded = np.pad(samples, (size, 2 * size - len(samples) % size))
        blocks = padded.reshape(-1, size)
        frames = np.concatenate([blocks[:-1], blocks[1:]], axis=1) * self._window
        first, second, third, fourth = (frames[:, i * half : (i + 1) * half] for i in range(4))
        folded = np.concatenate([-third[:, ::-1] - fourth, first - second[:, ::-1]], axis=1)
        return np.asarray(fft.dct(folded, 4, axis=1, norm="ortho"), np.float32)

    def inverse(self, coefficients: FloatArray, length: int) -> Signal:
        """The signal: exact when the coefficients are untouched."""
        size, half = self.size, self.size // 2
        folded = fft.dct(coefficients, 4, axis=1, norm="ortho")
        left, right = folded[:, :half], folded[:, half:]
        frames = np.concatenate([right, -right[:, ::-1], -left[:, ::-1], -left], axis=1)
        frames *= self._window
        out = np.zeros((len(frames) + 1) * size, np.float32)
        out[: len(frames) * size] += frames[:, :size].ravel()
        out[size:] += frames[:, size:].ravel()
        return out[size : size + length]


def prepare_mdct_codec(speech: Sequence[Signal], rng: np.random.Generator) -> Copier:
    """Three codecs of different frames; gains and shapes of bands, both from codebooks."""
    codecs = [_MdctCodec.learn(speech, size, rng) for size in (160, 256, 320)]

    def mdct_codec(samples: Signal, rng: np.random.Generator) -> Copied:
        return pick(rng, codecs)(samples, rng)

    return mdct_codec


@dataclass(frozen=True, slots=True)
class _MdctCodec:
    mdct: Mdct
    edges: tuple[int, ...]
    gains: ResidualQuantiser
    shapes: tuple[ResidualQuantiser, ...]

    @classmethod
    def learn(cls, speech: Sequence[Signal], size: int, rng: np.random.Generator) -> _MdctCodec:
        # Bands a little under a Bark wide at the bottom; wider above, where the ear is coarse.
        hz = [0, 150, 300, 450, 650, 900, 1200, 1600, 2100, 2700, 3400, 4400, 5800, 8000]
        edges = tuple(sorted({round(edge * size / (RATE_HZ / 2)) for edge in hz}))
        mdct = Mdct(size)
        found = [_gain_and_shape(mdct.forward(samples), edges) for samples in speech]
        gain = np.concatenate([gain - _level(gain) for gain, _ in found])
        shape = [np.concatenate(rows) for rows in zip(*(rows for _, rows in found), strict=True)]
        loud = gain.mean(axis=1) > np.quantile(gain.mean(axis=1), 0.3)
        gains = ResidualQuantiser.learn(gain, 4, _WORDS, rng)
        shapes = tuple(ResidualQuantiser.learn(rows[loud], 3, 128, rng) for rows in shape)
        return cls(mdct, edges, gains, shapes)

    def __call__(self, samples: Signal, rng: np.random.Generator) -> Copied:
        spectra = self.mdct.forward(samples)
        gain, shapes = _gain_and_shape(spectra, self.edges)
        gain_stages = int(rng.integers(2, 5))
        level = _level(gain)
        gain = self.gains(gain - level, gain_stages) + level
        noise_from = int(rng.integers(len(shapes) // 2, len(shapes) + 1))
        stages = int(rng.integers(1, 4))
        bits = self.gains.bits(gain_stages)
        out = np.zeros_like(spectra)
        for band, (rows, quantiser) in enumerate(zip(shapes, self.shapes, strict=True)):
            if band < noise_from:
                used = stages if band < len(shapes) // 2 else 1
                coded = quantiser(rows, used)
                bits += quantiser.bits(used)
            else:
                coded = rng.standard_normal(rows.shape).astype(np.float32)
            coded /= np.sqrt(np.mean(coded**2, axis=1, keepdims=True)) + FLOOR
            out[:, self.edges[band] : self.edges[band + 1]] = coded * np.exp(gain[:, band, None])
        drawn: dict[str, object] = {
            "frame": self.mdct.size,
            "stages": stages,
            "noise_from": noise_from,
            "bit_s": round(bits * RATE_HZ / self.mdct.size),
        }
        copy = self.mdct.inverse(out, len(samples))
        if rng.random() < 0.5:  # decoders often end in a filter that deepens the formant valleys
            drawn["tilt"] = tilt = rng.uniform(-0.2, 0.2)
            copy = signal.lfilter([1.0, tilt], [1.0], copy).astype(np.float32)
        return copy, drawn


def _gain_and_shape(
    spectra: FloatArray, edges: Sequence[int]
) -> tuple[FloatArray, list[FloatArray]]:
    """``[frames, bands]`` log amplitude, and per band ``[frames, width]`` of unit power."""
    gains, shapes = [], []
    for start, stop in pairwise(edges):
        band = spectra[:, start:stop]
        level = np.sqrt(np.mean(band**2, axis=1)) + FLOOR
        gains.append(np.log(level))
        shapes.append((band / level[:, None]).astype(np.float32))
    return np.stack(gains, axis=1).astype(np.float32), shapes
