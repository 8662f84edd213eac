"""Batches of augmented crops with everything that a loss may ask of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tools.augment import Augmenter
from tools.crops import HOP_SAMPLES, Crops, normalised
from tools.data import Clip
from tools.draws import Balance, BalancedDraw, Draw, PairDraw, draw_weights
from tools.labels import Labels

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]
    BoolArray = npt.NDArray[np.bool_]
    Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Crops as the daemon's front end would give them to a network."""

    samples: FloatArray
    """``[rows, left_context + 8000 hops]``."""
    valid: BoolArray
    """``[rows, hops]``: whether a hop holds speech."""
    spoof: BoolArray
    technology: Rows
    """Index into the labels, or ``NO_LABEL``."""
    generator: Rows
    source: tuple[str, ...]


class Pool:
    """Crops and their labels as arrays; read-only."""

    def __init__(self, crops: Crops, labels: Labels) -> None:
        self.crops = crops
        self.technology = np.array([labels.technology_of(c) for c in crops.clips], np.int64)
        self.generator = np.array([labels.generator_of(c) for c in crops.clips], np.int64)


class RowDraw(Protocol):
    """Draws rows of a pool: at most as many as asked."""

    def rows(self, count: int, rng: np.random.Generator) -> Rows: ...


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """A part of every batch: where its rows come from, and how they are drawn."""

    pool: Pool
    draw: RowDraw
    of_batch: float


class ByLabel:
    """``BalancedDraw`` as rows of a pool."""

    def __init__(self, clips: Sequence[Clip], labels: Labels) -> None:
        self._draw = BalancedDraw(clips, labels)
        self._row = {clip.path: row for row, clip in enumerate(clips)}

    def rows(self, count: int, rng: np.random.Generator) -> Rows:
        return np.array([self._row[clip.path] for clip in self._draw.draw(count, rng)], np.int64)


def detection_shares(
    train: Crops, copies: Crops | None, labels: Labels, balance: Balance
) -> tuple[Share, ...]:
    """Free draws, fours of one source, and copy-synthesis, as the recipe weighs them."""
    pool = Pool(train, labels)
    shares = [
        Share(
            pool,
            Draw(draw_weights(train.clips, balance)),
            1.0 - balance.pairs - (balance.copies if copies else 0.0),
        )
    ]
    if balance.pairs:
        shares.append(Share(pool, PairDraw(train.clips), balance.pairs))
    shares += copy_shares(copies, labels, balance)
    return tuple(shares)


def attribution_shares(
    train: Crops, copies: Crops | None, labels: Labels, balance: Balance
) -> tuple[Share, ...]:
    """Technologies and listed generators evenly, and copy-synthesis as the recipe weighs it."""
    copied = copy_shares(copies, labels, balance)
    share = 1.0 - sum(part.of_batch for part in copied)
    return (Share(Pool(train, labels), ByLabel(train.clips, labels), share), *copied)


def copy_shares(copies: Crops | None, labels: Labels, balance: Balance) -> list[Share]:
    """A source by the root of its copies, a method of it evenly: no method is the bulk."""
    if copies is None or not balance.copies:
        return []
    cells: dict[str, dict[str, list[int]]] = {}
    for row, clip in enumerate(copies.clips):
        cells.setdefault(clip.source_repo, {}).setdefault(clip.generator, []).append(row)
    weights = np.zeros(len(copies.clips))
    for methods in cells.values():
        count = sum(len(rows) for rows in methods.values())
        for rows in methods.values():
            weights[rows] = count**balance.source_power / len(methods) / len(rows)
    return [Share(Pool(copies, labels), Draw(weights), balance.copies)]


class BatchMaker:
    """Makes the batches of an epoch, one ahead of the trainer, in a thread of its own."""

    def __init__(
        self,
        shares: Sequence[Share],
        augmenter: Augmenter,
        batch: int,
        hops: tuple[int, int],
        *,
        withhold: bool = False,
    ) -> None:
        """``withhold``: only transformed copies come, of no crop the original.

        Of every class: were it of some alone, what is untransformed would tell the class.
        """
        self._shares = tuple(shares)
        self._augmenter = augmenter
        self._batch = batch
        self._hops = hops
        self._withhold = withhold

    def epoch(self, batches: int, rng: np.random.Generator) -> Iterator[Batch]:
        """So many batches; all of them follow from ``rng``."""
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            coming = thread.submit(self.make, rng)
            for number in range(batches):
                batch = coming.result()
                if number + 1 < batches:
                    coming = thread.submit(self.make, rng)
                yield batch

    def make(self, rng: np.random.Generator) -> Batch:
        """One batch; its crops are all of one length."""
        hops = int(rng.integers(self._hops[0], self._hops[1] + 1))
        parts = [
            (share.pool, share.draw.rows(round(share.of_batch * self._batch), rng))
            for share in self._shares
        ]
        # One hop more than wanted: what is played faster must not leave silence at the end.
        taken = [pool.crops.take(rows, hops + 1, rng) for pool, rows in parts]
        crops = np.concatenate([samples for samples, _ in taken])
        wanted = crops.shape[1] - HOP_SAMPLES
        clips = [pool.crops.clips[row] for pool, rows in parts for row in rows]
        return Batch(
            samples=normalised(self._augmenter(crops, rng, wanted, originals=not self._withhold)),
            valid=np.concatenate([valid[:, :hops] for _, valid in taken]),
            spoof=np.array([clip.spoof for clip in clips], np.bool_),
            technology=np.concatenate([pool.technology[rows] for pool, rows in parts]),
            generator=np.concatenate([pool.generator[rows] for pool, rows in parts]),
            source=tuple(clip.source_repo for clip in clips),
        )
