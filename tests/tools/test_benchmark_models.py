"""The command: rows are trained, measured and skipped when done; one that fails stops no other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tools.clips import speaking_collection
from tools import benchmark_models, trainer
from tools.benchmark_models import Bench, chosen_rows, main
from tools.data import DataError
from tools.gallery.rows import Gallery, Row, read_gallery
from tools.gallery.runs import Material, export_row, train_row, trained_before
from tools.gallery.scores import Listening
from tools.gallery.table import marks

pytestmark = [pytest.mark.train, pytest.mark.timeout(120)]
MODELS = Path(__file__).parents[2] / "models"
SMALL = (
    "train.crops_per_epoch: 16, train.batch: 8, train.hops: [1, 2], train.warmup_epochs: 0,"
    " train.bf16: false"
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not (MODELS / "subband" / "bundle" / "bundle.yaml").exists():
        pytest.skip("models/subband/bundle is not there")
    monkeypatch.setattr(trainer, "_STATISTICS_BATCHES", 1)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_rows_are_filled_skipped_when_done_and_fail_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = speaking_collection(tmp_path)
    table, page, out = tmp_path / "rows.yaml", tmp_path / "page.md", tmp_path / "out"
    table.write_text(
        "schema: streamguard.gallery/1\nrows:\n"
        "- {name: bad, title: Bad, group: G, recipe: cnn_lstm/comparison.yaml,"
        " set: {network.recurrent: abacus}}\n"
        "- {name: gru, title: GRU, group: G, recipe: cnn_lstm/comparison.yaml, epochs: 2,"
        f" set: {{network.recurrent: gru, network.convolutions: false, {SMALL}}}}}\n"
    )
    begin, end = marks()
    of_part = "\n".join(marks("tools.benchmark_models, again"))
    page.write_text(f"Prose.\n{begin}\n{end}\n{of_part}\n")
    words = ["--data", str(data), "--table", str(table), "--out", str(out), "--page", str(page)]
    words += ["--split", str(data / "split.yaml"), "--cache", str(tmp_path / "cache")]
    words += ["--budget", "0.001"]  # of which even four epochs of a batch take more

    assert main(words) == 1
    assert "Error: network.recurrent: 'abacus'" in capsys.readouterr().out
    result: dict[str, Any] = json.loads((out / "rows" / "gru.json").read_text())
    assert result["trained"]["epochs"] == 2
    assert result["trained"]["crops"] == 16  # one batch of eight crops, twice
    assert not result["trained"]["converged"]
    assert result["cost"]["ratio"] > 0
    assert result["parameters"] > 10_000
    assert 0.0 <= result["scores"]["direct"]["eer"] <= 1.0
    text = page.read_text()
    assert text.count("| GRU |") == 1
    assert "Bad: failed" in text
    picture = tmp_path / "gallery" / "detection_cost.png"
    assert picture.exists()
    picture.unlink()

    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(benchmark_models, "train_row", refuse)
        assert main([*words, "--rows", "gru", "--section", "again"]) == 0
        assert "done already" in capsys.readouterr().out
    assert page.read_text().count("| GRU |") == 2
    assert "### again" in page.read_text()
    assert not picture.exists()

    # A finished training is not repeated, even where its result is lost.
    (run,) = (out / "runs").iterdir()
    before = (run / "best.pt").read_bytes()
    material = Material(
        data, tmp_path / "cache", data / "split.yaml", torch.device("cpu"), budget_minutes=0.001
    )
    again = train_row(read_gallery(table).named("gru"), material, run, None)
    assert dataclasses.asdict(again) == result["trained"]
    assert (run / "best.pt").read_bytes() == before

    # Measured as a checkpoint that was trained beforehand, it is as short of the recipe as it was.
    words = words[:-2]
    assert main([*words, "--rows", "gru", "--checkpoint", f"gru={run / 'best.pt'}"]) == 0
    given = json.loads((out / "rows" / "gru.json").read_text())["trained"]
    assert (given["crops"], given["planned_crops"]) == (16, 32)
    assert given["why"] == "cut short of the recipe"
    (run / "history.csv").unlink()
    again = trained_before(read_gallery(table).named("gru"), run / "best.pt")
    assert not again.converged
    assert "not kept" in again.why


def test_a_row_comes_with_the_row_whose_weights_it_begins_with() -> None:
    recipe = MODELS / "lava" / "recipe.yaml"
    first, second = Row("first", "F", "G", recipe), Row("second", "S", "G", recipe, init="first")
    gallery = Gallery("subband", (first, Row("other", "O", "G", recipe), second))
    assert chosen_rows(gallery, ["second"], Path("rows.yaml")) == [first, second]
    with pytest.raises(DataError, match="one of first, other, second"):
        chosen_rows(gallery, ["third"], Path("rows.yaml"))


def test_a_result_holds_beside_the_baseline_that_its_cost_is_counted_in(tmp_path: Path) -> None:
    for name in ("manifest.csv", "split.yaml"):
        (tmp_path / name).write_text("\n")
    row = Row("a", "A", "G", MODELS / "cnn_lstm" / "recipe.yaml")
    material = Material(tmp_path, tmp_path, tmp_path / "split.yaml", torch.device("cpu"))
    keys = {
        benchmark_models._result_key(
            Bench(Gallery(baseline, (row,)), material, Listening((), {}, (), {}), tmp_path), row
        )
        for baseline in ("cnn_lstm", "subband_attribution")
    }
    assert len(keys) == 2


def test_the_rows_of_the_table_can_be_listed_without_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--list", "--out", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert all(row.name in listed for row in read_gallery().rows)


def test_a_budget_is_above_zero(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--budget", "0"])
    assert "--budget" in capsys.readouterr().err


def test_an_exported_run_without_labels_is_no_bundle(tmp_path: Path) -> None:
    from tools.training import save_checkpoint

    save_checkpoint(tmp_path / "best.pt", {"recipe": {"task": "reconstruction"}})
    assert export_row("x", tmp_path / "best.pt", tmp_path / "bundle") is None


def test_a_checkpoint_is_given_to_a_row_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--checkpoint", "nobody=best.pt"])
    assert "with the name of a row" in capsys.readouterr().err
