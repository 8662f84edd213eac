"""Gated fusion on a small tree in MLAAD's layout: training, checkpoints per scorer, the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from models.lava.network import Autoencoder
from tools import open_set, train, trainer
from tools.auxiliary import unknown, with_auxiliary
from tools.data import DEFAULT_SPLIT, Corpus, DataError, open_corpus, read_split
from tools.labels import Labels
from tools.metrics import fpr_at
from tools.training import CheckpointError, load_checkpoint, load_recipe, save_checkpoint

pytestmark = [pytest.mark.train, pytest.mark.timeout(90)]
RECIPE = Path(__file__).parents[2] / "models" / "gated_fusion" / "mlaad.yaml"
PARTS = {
    "train": ("first", "second"),
    "dev": ("first", "second", "new1", "new2", "new3", "shared"),
    "eval": ("first", "second", "never", "shared"),
}
SMALL = {
    "train.epochs": 3,
    "train.crops_per_epoch": 16,
    "train.bank": 16,
    "train.batch": 8,
    "train.hops": [1, 2],
    "network.frozen_gate_epochs": 1,
    "augment.codec": 0.0,
}


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_STATISTICS_BATCHES", 1)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def mlaad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones, one pitch to a generator; ``griffin_lim`` stays away."""
    root = tmp_path_factory.mktemp("mlaad")
    rng = np.random.default_rng(0)
    for part, models in PARTS.items():
        rows = ["path,model_name"]
        for place, model in enumerate(models):
            for number in range(6 if part == "train" else 2):
                path = f"./fake/en/{model}/{part}{number}.wav"
                tone = np.sin(np.arange(26000) * (0.05 + 0.04 * place + 0.01 * rng.random()))
                file = root / path
                file.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(file, 0.3 * tone + 0.01 * rng.standard_normal(26000), 16000)
                rows.append(f"{path},{model}")
        (root / f"{part}.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an autoencoder that has learned nothing."""
    file = tmp_path_factory.mktemp("lava") / "best.pt"
    torch.manual_seed(0)
    recipe = {"system": "lava", "task": "reconstruction"}
    save_checkpoint(file, {"recipe": recipe, "model": Autoencoder().state_dict()})
    return file


def _train(mlaad: Path, run: Path, cache: Path, *more: str) -> None:
    changes = [f"--set={key}={json.dumps(value)}" for key, value in SMALL.items()]
    corpus = ["--corpus", f"mlaad={mlaad}", "--cache", str(cache)]
    assert train.main([str(RECIPE), *corpus, "--run", str(run), *changes, *more]) == 0


@pytest.fixture(scope="module")
def trained(mlaad: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    _train(mlaad, folder / "run", folder / "cache", "--init", str(encoder))
    return folder


def _corpus(mlaad: Path) -> tuple[Corpus, Labels]:
    corpus = open_corpus(f"mlaad={mlaad}")
    split = read_split(DEFAULT_SPLIT)
    return corpus, Labels.of(corpus.select("train", split), load_recipe(RECIPE))


def test_every_second_unknown_development_generator_teaches_and_none_of_the_test(
    mlaad: Path,
) -> None:
    corpus, labels = _corpus(mlaad)
    train_clips, held = with_auxiliary("development", corpus, read_split(DEFAULT_SPLIT), labels)
    assert unknown(train_clips, labels) == {"new1", "new3"}
    assert unknown(held, labels) == {"new2", "shared"}
    assert {clip.generator for clip in held} == {"first", "second", "new2", "shared"}


def test_unlisted_training_generators_teach_unless_another_role_holds_them(mlaad: Path) -> None:
    corpus, _ = _corpus(mlaad)
    labels = Labels(("tts",), (("tts", "first"),))
    train_clips, held = with_auxiliary("training", corpus, read_split(DEFAULT_SPLIT), labels)
    assert {clip.generator for clip in train_clips} == {"first"}, "second is measured elsewhere"
    assert len(held) == 12
    with pytest.raises(ValueError, match=r"auxiliary_ood: 'test': one of training, development"):
        with_auxiliary("test", corpus, read_split(DEFAULT_SPLIT), labels)


def test_each_scorer_keeps_the_checkpoint_of_its_least_fpr95(trained: Path) -> None:
    run = trained / "run"
    history = np.genfromtxt(run / "history.csv", delimiter=",", names=True)
    for scorer in ("sme", "energy", "msp"):
        state = load_checkpoint(run / f"best_{scorer}.pt")
        error = (history[f"fpr95_{scorer}_wide"] + history[f"fpr95_{scorer}_narrow"]) / 2
        assert state["epoch"] - 1 == int(error.argmin())
    first = load_checkpoint(run / "best_sme.pt")
    assert load_checkpoint(run / "best.pt")["epoch"] == first["epoch"]
    names = [label["name"] for label in first["labels"]["generator"]]
    assert names == ["first", "second"]


def test_the_features_are_computed_once_for_all_fusions(
    trained: Path, mlaad: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bank,) = (trained / "cache").glob("features-*.npz")
    before = bank.stat().st_mtime_ns

    def again(*_: object) -> None:
        raise AssertionError("the bank is there")

    monkeypatch.setattr("tools.bank._write", again)
    more = ("--init", str(encoder), "--set=network.fusion=cores", "--set=train.epochs=1")
    _train(mlaad, tmp_path / "run", trained / "cache", *more)
    assert bank.stat().st_mtime_ns == before


def test_a_run_that_was_interrupted_goes_on_as_if_it_were_not(
    trained: Path, mlaad: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(path: Path, state: dict[str, object]) -> None:
        if state["epoch"] == 2:
            raise KeyboardInterrupt
        save_checkpoint(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", power_cut)
        with pytest.raises(KeyboardInterrupt):
            _train(mlaad, tmp_path, trained / "cache", "--init", str(encoder))
    _train(mlaad, tmp_path, trained / "cache", "--resume")
    whole, parts = (load_checkpoint(run / "last.pt") for run in (trained / "run", tmp_path))
    assert parts["least"] == whole["least"]
    for name, value in whole["model"].items():
        torch.testing.assert_close(parts["model"][name], value, msg=name)


def test_a_scorer_that_there_is_not_is_named_before_anything_is_trained() -> None:
    settings = load_recipe(RECIPE)["train"] | {"scorers": ["sme", "odin"]}
    with pytest.raises(ValueError, match=r"train\.scorers: 'odin': one of sme, msp, energy"):
        trainer.TrainSettings(**settings)


def test_a_fresh_run_without_the_encoder_is_refused(mlaad: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"begins with a run of \.\./lava/autoencoder\.yaml"):
        _train(mlaad, tmp_path, tmp_path)


def test_the_report_is_about_generators_that_nobody_has_heard(
    trained: Path, mlaad: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = ["--corpus", f"mlaad={mlaad}", "--cache", str(trained / "cache")]
    out = ["--json", str(tmp_path / "open_set.json"), "--report", str(tmp_path / "report")]
    assert open_set.main([str(trained / "run"), *corpus, *out]) == 0
    said = json.loads((tmp_path / "open_set.json").read_text())
    assert said["role"] == "test"
    assert said["unknown_generators"] == ["never"], "the shared one was heard in development"
    scorers = [(row["line"], row["scorer"]) for row in said["scorers"]]
    assert scorers == [(line, s) for s in ("sme", "energy", "msp") for line in ("wide", "narrow")]
    for row in said["scorers"]:
        assert (row["open_set"]["known"], row["open_set"]["unknown"]) == (4, 2)
        assert 0.0 <= row["open_set"]["eerc"] <= 1.0
    assert [(g["generators"], g["windows"]) for g in said["gates"][:2]] == [
        ("known", 4),
        ("unknown", 2),
    ]
    assert all(0.0 < gate["deep_mean"] < 1.0 for gate in said["gates"])
    assert list(dict.fromkeys(gate["scorer"] for gate in said["gates"])) == ["sme", "energy", "msp"]
    assert (tmp_path / "report" / "gate.png").stat().st_size > 10_000
    text = (tmp_path / "report" / "report.md").read_text()
    assert "weight of the deep branch" in text
    assert text.startswith(capsys.readouterr().out.strip()[:100])


def test_the_threshold_lets_95_percent_of_the_known_pass() -> None:
    rng = np.random.default_rng(0)
    confidence, known = rng.standard_normal(400), rng.random(400) < 0.5
    threshold = open_set.threshold_at(confidence, known)
    accepted = confidence >= threshold
    assert accepted[known].mean() >= 0.95
    assert (confidence > threshold)[known].mean() < 0.95
    assert accepted[~known].mean() == pytest.approx(fpr_at(confidence, known))


def test_a_role_without_unknown_generators_is_named(trained: Path, mlaad: Path) -> None:
    corpus, _ = _corpus(mlaad)
    state = load_checkpoint(trained / "run" / "best.pt")
    known = tuple(clip for clip in corpus.clips if clip.generator != "never")
    split = read_split(DEFAULT_SPLIT)
    with pytest.raises(DataError, match="role: 'test': clips of listed generators and of others"):
        open_set.gather(Corpus(mlaad, known), split, "test", state, trained / "cache")
