"""The recipes of the two networks; what a run was made with travels in its checkpoint."""

from __future__ import annotations

import copy
from typing import Any, Final

# A quarter of an hour on one core, most of it in the adversary's convolutions.
_TRAIN: Final = {
    "batch": 8,
    "crop": 8192,
    "learning_rate": 1e-3,
    "steps": 5000,
    "adversary_from": 2000,
    "adversary_channels": 8,
    "save_every": 500,
}

RECIPES: Final[dict[str, dict[str, Any]]] = {
    "vocoder": {
        "kind": "vocoder",
        "seed": 1,
        "network": {"mels": 80, "channels": 128, "depth": 4, "size": 1024, "hop": 256},
        "train": _TRAIN,
    },
    "codec": {
        "kind": "codec",
        "seed": 1,
        "network": {
            "channels": 128,
            "depth": 3,
            "size": 1280,
            "strides": [4, 4, 4, 5],
            "stages": 8,
            "words": 256,
            "width": 8,
        },
        "train": _TRAIN,
    },
}
"""Under a million parameters each; the codec codes 50 frames/s at 8 bits a stage: 0.4 kbit/s
for each of its eight stages."""


def recipe_of(kind: str, seed: int, steps: int | None) -> dict[str, Any]:
    """A recipe of one's own; ``steps`` sets the length of its schedule."""
    recipe = copy.deepcopy(RECIPES[kind])
    recipe["seed"] = seed
    if steps is not None:
        recipe["train"]["steps"] = steps
    return recipe
