"""Draw a split by source and generator and write it down: ``python -m tools.make_split --data D``.

No clip-level split anywhere: a source is wholly in one role. From a seeded random assignment, those
single changes are kept that come nearer to the asked shares within every technology and kind of
source. Generators that occur only outside training, and a few more, are held out: no clip of theirs
may train anything.

``--unseen vocoder codec --out FILE`` draws a cross-corpus split: every source that holds speech of
such a technology is in the role ``test``, its human speech too, and the others are drawn as ever.
Whatever was trained, selected and calibrated on the one group is then measured on the other:
``python -m tools.evaluate BUNDLE --split FILE --role test``. Copy-synthesis (``--copies``) has
these technologies itself and does not go with it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from tools.command import run
from tools.data import (
    DEFAULT_SPLIT,
    SPOOF_TECHNOLOGIES,
    Clip,
    data_folder,
    paired_sources,
    read_manifest,
)

SHARES = {"train": 0.70, "validation": 0.12, "calibration": 0.18}
STEPS = 6000
EXTRA_HELD_OUT = 4
"""Generators that occur on both sides of the split and are kept out of training all the same."""

# Classical synthesis heard in the demo, so that the card can name it as known, and the telephone
# prompts of one speaker, three quarters of all narrow-band human clips: as a yardstick they would
# measure that speaker.
FIXED = {
    "speechbrain/speechbrain": "train",  # most of the noises and impulse responses
    "local:espeak-ng": "train",
    "local:festival": "train",
    "local:flite": "train",
    "wehup/asterisk-sounds": "train",
}


def draw_split(
    clips: Sequence[Clip], seed: int, unseen: Collection[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Roles by source, and the sorted held-out generators.

    Sources with a clip of an ``unseen`` technology are in the role ``test``.
    """
    speech = [clip for clip in clips if clip.speech]
    tested = {clip.source_repo for clip in speech if clip.technology in unseen}
    sources = sorted({clip.source_repo for clip in speech} - tested)
    counts = {
        source: Counter(clip.technology for clip in speech if clip.source_repo == source)
        for source in sources
    }
    rng = np.random.default_rng(seed)
    paired = paired_sources(speech)
    roles = _random_roles(sources, rng)
    cost = _cost(roles, counts, paired)
    free = [source for source in sources if source not in FIXED]
    for _ in range(STEPS):
        changed = roles | {str(rng.choice(free)): str(rng.choice(list(SHARES)))}
        if (changed_cost := _cost(changed, counts, paired)) < cost:
            roles, cost = changed, changed_cost
    roles |= dict.fromkeys(tested, "test")
    # Noise and impulse responses augment; sources without speech have nothing to be split by.
    for clip in clips:
        roles.setdefault(clip.source_repo, "train")
    return dict(sorted(roles.items())), _held_out(speech, roles, rng)


def _random_roles(sources: Sequence[str], rng: np.random.Generator) -> dict[str, str]:
    free = [source for source in sources if source not in FIXED]
    drawn = rng.choice(list(SHARES), size=len(free), p=list(SHARES.values()))
    roles = dict(zip(free, (str(role) for role in drawn), strict=True))
    return roles | {source: role for source, role in FIXED.items() if source in sources}


def _cost(
    roles: Mapping[str, str], counts: Mapping[str, Counter[str]], paired: frozenset[str]
) -> float:
    totals: dict[str, float] = {}
    found: dict[tuple[str, str], float] = {}
    for source, count in counts.items():
        # Twenty clips say about as much of a source as two hundred: count both ways.
        weights = {kind: clips + 20.0 for kind, clips in count.items()}
        weights["paired" if source in paired else "unpaired"] = 1.0
        if source in paired:
            weights["human beside spoofs"] = float(count["human"])
        for kind, weight in weights.items():
            totals[kind] = totals.get(kind, 0.0) + weight
            found[roles[source], kind] = found.get((roles[source], kind), 0.0) + weight
    # Squared, so that no kind is sacrificed for the others.
    return sum(
        (found.get((role, kind), 0.0) / total / share - 1.0) ** 2
        for role, share in SHARES.items()
        for kind, total in totals.items()
    )


def _held_out(
    speech: Sequence[Clip], roles: Mapping[str, str], rng: np.random.Generator
) -> list[str]:
    trained = Counter(
        clip.generator for clip in speech if clip.spoof and roles[clip.source_repo] == "train"
    )
    elsewhere = {
        clip.generator for clip in speech if clip.spoof and roles[clip.source_repo] != "train"
    }
    # Frequent ones stay: holding them out would cost more training data than it tells.
    shared = sorted(name for name in elsewhere if 0 < trained[name] <= 40)
    chosen = rng.choice(shared, size=min(EXTRA_HELD_OUT, len(shared)), replace=False)
    return sorted({name for name in elsewhere if not trained[name]} | {str(c) for c in chosen})


def main(argv: Sequence[str] | None = None) -> int:
    """Write the split file and print what is where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with manifest.csv ($STREAMGUARD_DATA)")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument(
        "--unseen",
        nargs="+",
        default=[],
        choices=sorted(SPOOF_TECHNOLOGIES),
        metavar="TECHNOLOGY",
        help="sources that hold it are for the test only (needs --out)",
    )
    parser.add_argument("--out", type=Path, help="default: the main split")
    options = parser.parse_args(argv)
    if options.unseen and options.out is None:
        parser.error("--unseen: is no main split; name its file by --out")
    options.out = options.out or DEFAULT_SPLIT
    clips = read_manifest(data_folder(options.data) / "manifest.csv")
    roles, held_out = draw_split(clips, options.seed, options.unseen)
    unseen = f" --unseen {' '.join(options.unseen)}" if options.unseen else ""
    document = {
        "schema": "streamguard.split/1",
        "made_by": f"python -m tools.make_split --seed {options.seed}{unseen}",
        "held_out_generators": held_out,
        "sources": roles,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(yaml.safe_dump(document, sort_keys=False, width=100), encoding="utf-8")
    for role in (*SHARES, *(["test"] if options.unseen else [])):
        chosen = [clip for clip in clips if roles[clip.source_repo] == role]
        print(f"{role}: {len({c.source_repo for c in chosen})} sources,", end=" ")
        print(f"{len(paired_sources(chosen))} paired,", dict(Counter(c.technology for c in chosen)))
    print(f"held out: {len(held_out)} generators")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
