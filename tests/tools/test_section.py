"""A section of a recipe that is not as it may be is told by its key."""

from __future__ import annotations

import pytest

from tools.section import RecipeError, section
from tools.trainer import TrainSettings

VALUES = {
    "epochs": 1, "crops_per_epoch": 8, "batch": 4, "hops": (2, 2), "learning_rate": 0.1,
    "weight_decay": 0.0, "warmup_epochs": 0.1, "clip_norm": 1.0, "bf16": False, "patience": 1,
}  # fmt: skip


def test_values_become_settings_and_the_rest_keeps_its_default() -> None:
    settings = section(TrainSettings, "train", VALUES)
    assert (settings.epochs, settings.optimiser) == (1, "adamw")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 3}, r"train\.epoch: no such key; one of epochs, crops_per_epoch, .*scorers"),
        ({"epochs": None}, None),
        ({"scorers": ("luck",)}, r"^train\.scorers: 'luck': one of "),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], message: str | None) -> None:
    values = {k: v for k, v in (VALUES | change).items() if v is not None}
    with pytest.raises(RecipeError, match=message or r"^train\.epochs: is missing$"):
        section(TrainSettings, "train", values)


def test_a_section_is_a_mapping() -> None:
    with pytest.raises(RecipeError, match=r"^train: 3: a mapping of keys to values$"):
        section(TrainSettings, "train", 3)  # type: ignore[arg-type]  # what YAML may hold
