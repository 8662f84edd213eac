"""Train LAVA: the autoencoder on spoofed speech, then both heads on its encoder.

    python -m tools.train_lava --data DIR --run runs/lava

A run folder holds, per stage, the last checkpoint (to resume), the best or final one, and a history
table. Interrupt at any time; the same command goes on from the last epoch.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.lava.network import LEFT_CONTEXT, STRIDE, Autoencoder, Lava, build
from streamguard.errors import StreamguardError
from tools.bundle_writer import sha256_of
from tools.data import (
    SAMPLE_RATE_HZ,
    SPLITS_FOLDER,
    AudioCache,
    Clip,
    data_folder,
    read_manifest,
    read_split,
)
from tools.draws import BalancedDraw
from tools.labels import NO_LABEL, Labels
from tools.lava_data import Crops, make_crops
from tools.progress import progress_bar
from tools.training import (
    CheckpointError,
    History,
    Recipe,
    load_checkpoint,
    load_recipe,
    save_checkpoint,
    seed_everything,
)

RECIPE = Path(__file__).parent.parent / "models" / "lava" / "recipe.yaml"
STAGES = ("autoencoder", "heads")


@dataclass(frozen=True, slots=True)
class Stage:
    """One training: what is optimised, on which batches, and how it is judged."""

    name: str
    recipe: Recipe
    model: nn.Module
    prepare: Callable[[], None]
    """Puts the model into training mode (the frozen part stays in evaluation mode)."""
    loss: Callable[[np.random.Generator], Tensor]
    """Of one fresh batch."""
    validate: Callable[[], dict[str, float]]
    """Numbers for the history; ``validation_loss`` among them."""
    keep: str
    """``best`` validation loss (with early stopping) or the ``last`` epoch."""
    extra: Mapping[str, Any]
    """What a checkpoint carries beside weights and recipe."""


def fit(stage: Stage, run: Path) -> Path:
    """Train or resume a stage; returns the checkpoint to use."""
    settings = stage.recipe[stage.name]
    resume, final = run / f"{stage.name}-last.pt", run / f"{stage.name}.pt"
    optimiser = torch.optim.Adam(
        [weight for weight in stage.model.parameters() if weight.requires_grad],
        lr=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
    )
    epochs, steps = int(settings["epochs"]), int(settings["steps_per_epoch"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings["learning_rate"], epochs=epochs, steps_per_epoch=steps, pct_start=0.1
    )
    first, best, stale = 0, float("inf"), 0
    if resume.exists():
        state = load_checkpoint(resume, stage.recipe)
        stage.model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        first, best, stale = int(state["epoch"]) + 1, float(state["best"]), int(state["stale"])
    history = History(run / f"{stage.name}.csv", first)
    patience = int(settings.get("patience", epochs))
    with progress_bar() as progress:
        bar = progress.add_task(stage.name, total=epochs * steps, completed=first * steps)
        for epoch in range(first, epochs):
            if stale >= patience:
                break
            rng = seed_everything(stage.recipe["seed"], STAGES.index(stage.name), epoch)
            began = time.monotonic()
            stage.prepare()
            total = 0.0
            for _ in range(steps):
                with _autocast(stage.recipe):
                    loss = stage.loss(rng)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                optimiser.step()
                schedule.step()
                total += float(loss.detach())
                progress.advance(bar)
            stage.model.eval()
            with torch.no_grad():
                numbers = stage.validate()
            loss_now = numbers["validation_loss"]
            improved = loss_now < best
            best, stale = min(best, loss_now), 0 if improved else stale + 1
            state = {
                "recipe": stage.recipe,
                "split_sha256": sha256_of(split_file(stage.recipe)),
                "model": stage.model.state_dict(),
                **stage.extra,
            }
            row = {"loss": total / steps, **numbers, "seconds": time.monotonic() - began}
            # The resume point comes last: what is interrupted before it is done again.
            if improved or stage.keep == "last":
                save_checkpoint(final, {**state, "epoch": epoch})
            history.add(epoch, row)
            save_checkpoint(
                resume,
                {
                    **state,
                    "optimiser": optimiser.state_dict(),
                    "schedule": schedule.state_dict(),
                    "epoch": epoch,
                    "best": best,
                    "stale": stale,
                },
            )
            print(f"{stage.name} {epoch}: " + " ".join(f"{k} {v:.5g}" for k, v in row.items()))
            sys.stdout.flush()
    return final


def autoencoder_stage(recipe: Recipe, train: Sequence[Clip], crops: Crops) -> Stage:
    """Reconstruction of spoofed speech; a fifth of the training clips judges it."""
    settings = recipe["autoencoder"]
    share = float(settings["validation_share"])
    learn = [clip for clip in train if not _held_back(clip, share)]
    judge = [clip for clip in train if _held_back(clip, share)]
    samples = round(settings["crop_seconds"] * SAMPLE_RATE_HZ / STRIDE) * STRIDE
    seed_everything(recipe["seed"])
    model = Autoencoder()
    draw = BalancedDraw(learn, Labels(tuple(recipe["labels"]["technology"]), ()))
    fixed = torch.from_numpy(
        crops.batch(judge[:: max(1, len(judge) // 200)], samples, np.random.default_rng(0))
    )

    def loss_of(batch: Tensor) -> Tensor:
        output = model(batch).float()
        return functional.smooth_l1_loss(output, batch, beta=float(settings["beta"]))

    def loss(rng: np.random.Generator) -> Tensor:
        clips = draw.draw(settings["batch"], rng)
        return loss_of(torch.from_numpy(crops.batch(clips, samples, rng)))

    def prepare() -> None:
        model.train()

    def validate() -> dict[str, float]:
        silence = functional.smooth_l1_loss(
            torch.zeros_like(fixed), fixed, beta=float(settings["beta"])
        )
        return {"validation_loss": float(loss_of(fixed)), "loss_of_silence": float(silence)}

    return Stage(
        name="autoencoder",
        recipe=recipe,
        model=model,
        prepare=prepare,
        loss=loss,
        validate=validate,
        keep="best",
        extra={},
    )


def heads_stage(
    recipe: Recipe,
    train: Sequence[Clip],
    validation: Sequence[Clip],
    crops: Crops,
    autoencoder: Path,
) -> Stage:
    """Both heads and the encoder's last layer; the rest of the encoder stays as it was learned."""
    settings = recipe["heads"]
    labels = Labels.of(train, recipe)
    frames = round(settings["crop_seconds"] * SAMPLE_RATE_HZ / STRIDE)
    samples = LEFT_CONTEXT + frames * STRIDE
    seed_everything(recipe["seed"], 1)
    model = build(recipe, labels.plain())
    stage_one = Autoencoder()
    stage_one.load_state_dict(_load_autoencoder(autoencoder, recipe)["model"])
    model.encoder.load_state_dict(stage_one.encoder.state_dict())
    draw = BalancedDraw(train, labels)
    smoothing, weight = float(settings["label_smoothing"]), float(settings["generator_weight"])
    # The history only watches: every third clip is enough, calibration measures on all.
    watched = validation[::3]
    judged = crops.batch(watched, samples, np.random.default_rng(0))

    def targets(clips: Sequence[Clip]) -> tuple[Tensor, Tensor]:
        return (
            torch.tensor([labels.technology_of(clip) for clip in clips]),
            torch.tensor([labels.generator_of(clip) for clip in clips]),
        )

    def loss(rng: np.random.Generator) -> Tensor:
        clips = draw.draw(settings["batch"], rng)
        technology, generator = targets(clips)
        first, second, _ = model(torch.from_numpy(crops.batch(clips, samples, rng)))
        # The generator half of the batch over-represents some technologies: only the first half
        # teaches that head.
        half = len(clips) // 2
        return functional.cross_entropy(
            first[:half].float(), technology[:half], label_smoothing=smoothing
        ) + weight * functional.cross_entropy(
            second[half:].float(), generator[half:], label_smoothing=smoothing
        )

    def prepare() -> None:
        model.train()
        model.encoder.train_only_the_last_layer()

    def validate() -> dict[str, float]:
        outputs = [model(torch.from_numpy(part))[:2] for part in np.array_split(judged, 8)]
        technology = torch.cat([first for first, _ in outputs])
        generator = torch.cat([second for _, second in outputs])
        wanted, named = targets(watched)
        listed = named != NO_LABEL
        right = technology.argmax(dim=1) == wanted
        recalls = [right[wanted == kind].float().mean() for kind in torch.unique(wanted)]
        hits = (generator.argmax(dim=1) == named)[listed].float().mean()
        return {
            "validation_loss": float(functional.cross_entropy(technology, wanted)),
            "technology_balanced_accuracy": float(torch.stack(recalls).mean()),
            "generator_accuracy": float(hits),
        }

    prepare()
    return Stage(
        name="heads",
        recipe=recipe,
        model=model,
        prepare=prepare,
        loss=loss,
        validate=validate,
        keep="last",
        extra={"labels": labels.plain()},
    )


def load_lava(path: Path) -> tuple[Lava, Labels, Recipe]:
    """A trained network in evaluation mode, its labels and its recipe."""
    state = load_checkpoint(path)
    model = build(state["recipe"], state["labels"])
    model.load_state_dict(state["model"])
    return model.eval(), Labels.from_plain(state["labels"]), state["recipe"]


def split_file(recipe: Recipe) -> Path:
    """Where the recipe's split is written down."""
    return SPLITS_FOLDER / f"{recipe['split']}.yaml"


def _load_autoencoder(path: Path, recipe: Recipe) -> dict[str, Any]:
    """A checkpoint whose recipe agrees in all that the first stage depends on."""
    state = load_checkpoint(path)
    for section in ("seed", "split", "front_end", "augment", "autoencoder"):
        if state["recipe"].get(section) != recipe[section]:
            raise CheckpointError(path, f"was made with another {section}; train it again")
    return state


def _held_back(clip: Clip, share: float) -> bool:
    """Whether a clip judges the autoencoder: by a hash, so that no list is needed."""
    digest = hashlib.sha256(clip.path.encode()).digest()
    return digest[0] < 256 * share


def _autocast(recipe: Recipe) -> contextlib.AbstractContextManager[Any]:
    if recipe["train_precision"] == "bf16":
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train LAVA.", prog="python -m tools.train_lava")
    parser.add_argument("--data", type=Path, help="folder with manifest.csv ($STREAMGUARD_DATA)")
    parser.add_argument("--run", type=Path, default=Path("runs/lava"), help="run folder")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="decoded audio")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--stage", choices=(*STAGES, "all"), default="all")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        recipe = load_recipe(options.recipe)
        data = data_folder(options.data)
        clips = read_manifest(data / "manifest.csv")
        split = read_split(split_file(recipe))
        cache = AudioCache.open(data, options.cache, clips)
        crops = make_crops(cache, recipe, clips, split)
        train = [clip for clip in split.select(clips, "train") if clip.spoof]
        validation = [clip for clip in split.select(clips, "validation") if clip.spoof]
        options.run.mkdir(parents=True, exist_ok=True)
        autoencoder = options.run / "autoencoder.pt"
        if options.stage in ("autoencoder", "all"):
            autoencoder = fit(autoencoder_stage(recipe, train, crops), options.run)
        if options.stage in ("heads", "all"):
            fit(heads_stage(recipe, train, validation, crops, autoencoder), options.run)
    except StreamguardError as err:
        print(err, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
