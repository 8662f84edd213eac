"""Features that no training changes, computed once and drawn from in every epoch.

For a network whose ``features`` do not learn (a frozen backbone, descriptors by formula) an epoch
over such a bank costs what its heads cost. The price: the same augmented crops in every epoch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tools.batches import Batch, BatchMaker
from tools.outputs import HopNetwork
from tools.progress import track
from tools.validation import Evaluation

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.generic]
    FloatArray = npt.NDArray[np.float32]
    BoolArray = npt.NDArray[np.bool_]

_PART = 32
"""Windows at a time."""
_PROBED = 4
"""Crops of the first batch whose features tell one network from another."""


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """Batches whose ``samples`` are features; draws like a ``BatchMaker``."""

    rows: Batch
    batch: int

    def epoch(self, batches: int, rng: np.random.Generator) -> Iterator[Batch]:
        """So many batches; no row comes twice before all have come."""
        wanted = batches * self.batch
        rounds = -(-wanted // len(self.rows.spoof))
        order = np.concatenate([rng.permutation(len(self.rows.spoof)) for _ in range(rounds)])
        for first in range(0, wanted, self.batch):
            yield _taken(self.rows, order[first : first + self.batch])


def fill(
    model: HopNetwork,
    batches: BatchMaker,
    evaluation: Evaluation,
    crops: int,
    rng: np.random.Generator,
    device: torch.device,
    folder: Path,
) -> tuple[Bank, Evaluation]:
    """Features of about so many crops, and of the validation windows; kept in ``folder``.

    What lies there already is taken if crops, windows and network are the same.
    """
    first = batches.make(rng)
    size = len(first.spoof)
    count = max(1, round(crops / size))
    model.eval()
    file = folder / f"features-{_key(model, first, evaluation, count, device)}.npz"
    if not file.exists():
        made = [
            _featured(model, batch, device)
            for batch in track(
                itertools.chain((first,), batches.epoch(count - 1, rng)), "features", count
            )
        ]
        channels = featured(model, evaluation, device).channels
        _write(file, _joined(made), {name: features for name, (features, _) in channels.items()})
    with np.load(file) as stored:
        rows = Batch(
            **{
                field.name: stored[field.name]
                for field in dataclasses.fields(Batch)
                if field.name != "source"
            },
            source=tuple(stored["source"].tolist()),
        )
        frozen = dataclasses.replace(
            evaluation,
            channels={
                name: (stored[f"channel_{name}"], valid)
                for name, (_, valid) in evaluation.channels.items()
            },
            featured=True,
        )
    return Bank(rows, size), frozen


def featured(model: HopNetwork, evaluation: Evaluation, device: torch.device) -> Evaluation:
    """The same with features in the place of samples."""
    channels = {
        name: (_windows(model, samples, valid, device), valid)
        for name, (samples, valid) in evaluation.channels.items()
    }
    return dataclasses.replace(evaluation, channels=channels, featured=True)


def _featured(model: HopNetwork, batch: Batch, device: torch.device) -> Batch:
    features = _windows(model, batch.samples, batch.valid, device)
    return dataclasses.replace(batch, samples=features)


def _windows(
    model: HopNetwork, samples: FloatArray, valid: BoolArray, device: torch.device
) -> FloatArray:
    found = []
    with torch.no_grad():
        for first in range(0, len(samples), _PART):
            rows = slice(first, first + _PART)
            mask = torch.from_numpy(valid[rows]).to(device)
            features = model.features(torch.from_numpy(samples[rows]).to(device), mask)
            found.append(features.float().cpu().numpy())
    return np.concatenate(found)


def _joined(batches: list[Batch]) -> Batch:
    """One batch; shorter crops get hops that are not valid."""
    hops = max(batch.valid.shape[1] for batch in batches)

    def padded(values: Array) -> Array:
        missing = [(0, 0)] * values.ndim
        missing[1] = (0, hops - values.shape[1])
        return np.pad(values, missing)

    return Batch(
        samples=np.concatenate([padded(batch.samples) for batch in batches]),
        valid=np.concatenate([padded(batch.valid) for batch in batches]),
        spoof=np.concatenate([batch.spoof for batch in batches]),
        technology=np.concatenate([batch.technology for batch in batches]),
        generator=np.concatenate([batch.generator for batch in batches]),
        source=tuple(name for batch in batches for name in batch.source),
    )


def _taken(batch: Batch, rows: npt.NDArray[np.int64]) -> Batch:
    return Batch(
        samples=batch.samples[rows],
        valid=batch.valid[rows],
        spoof=batch.spoof[rows],
        technology=batch.technology[rows],
        generator=batch.generator[rows],
        source=tuple(batch.source[row] for row in rows),
    )


def _write(file: Path, rows: Batch, channels: Mapping[str, FloatArray]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    arrays: dict[str, Any] = {
        field.name: getattr(rows, field.name) for field in dataclasses.fields(Batch)
    }
    arrays["source"] = np.array(rows.source, np.str_)
    arrays |= {f"channel_{name}": features for name, features in channels.items()}
    with temporary.open("wb") as stream:
        np.savez(stream, **arrays)
    temporary.replace(file)


def _key(
    model: HopNetwork, first: Batch, evaluation: Evaluation, count: int, device: torch.device
) -> str:
    """Of what the features follow from: the crops, the windows, and the network on some of them."""
    digest = hashlib.sha256(str(count).encode())
    probed = _windows(model, first.samples[:_PROBED], first.valid[:_PROBED], device)
    labels = (first.technology, first.generator, evaluation.technology, evaluation.generator)
    windows = [samples for samples, _ in evaluation.channels.values()]
    for values in (first.samples, probed, *labels, *windows):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]
