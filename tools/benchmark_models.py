"""Fill the table of all systems and ablations: ``python -m tools.benchmark_models --data D``.

For every row of ``tools/gallery/rows.yaml``: train (or take a committed bundle), export, measure
parameters and processor time per hop, score on the validation sources (``--role``; with ``--split``
the text's training on some attacks and test on others). What is done is skipped, an
interrupted training goes on, a row that fails is reported and the others go on. ``--out`` gets a
run folder and a JSON file per row; ``--page`` gets the table, with two pictures beside it, or
``--section`` one table of the chosen rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from streamguard.inference.bundle import find_bundle, load_bundle
from tools.bundle_writer import sha256_of
from tools.command import run
from tools.data import (
    DEFAULT_SPLIT,
    ROLES,
    AudioCache,
    DataError,
    data_folder,
    read_manifest,
    read_split,
)
from tools.gallery.cost import measure_cost, parameters
from tools.gallery.plots import draw
from tools.gallery.rows import ROWS_FILE, Gallery, Row, read_gallery
from tools.gallery.runs import Material, export_row, row_key, train_row, trained_before
from tools.gallery.scores import Listening, score
from tools.gallery.table import (
    DONE,
    FAILED,
    MAKER,
    Result,
    markdown,
    put_between,
    read_results,
    write_result,
)
from tools.train import DEFAULT_CACHE, best_device

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every row needs."""

    gallery: Gallery
    material: Material
    listening: Listening
    out: Path
    role: str = "validation"
    """Of the clips that are scored."""

    def run_folder(self, row: Row) -> Path:
        """Of a row as it is now: another recipe or budget trains into another folder."""
        return self.out / "runs" / f"{row.name}-{self.key(row)}"

    def checkpoint(self, row: Row) -> Path:
        """The best epoch of a row."""
        return self.material.given.get(row.name, self.run_folder(row) / "best.pt")

    def key(self, row: Row) -> str:
        return row_key(row, self.material, self.gallery.rows)


def open_bench(gallery: Gallery, material: Material, out: Path, role: str) -> Bench:
    """Read the collection and hear the sources of a role, if they were not heard yet."""
    clips = read_manifest(material.data / "manifest.csv")
    split = read_split(material.split)
    audio = AudioCache.open(material.data, material.cache, clips)
    listening = Listening.of(clips, audio, split, out / "hops", role)
    return Bench(gallery, material, listening, out, role)


def fill(bench: Bench, rows: Sequence[Row]) -> list[Result]:
    """Rows one after the other; a row that fails is a result, too."""
    results = []
    before = read_results(bench.out, bench.gallery)
    for number, row in enumerate(rows, 1):
        print(f"[{number}/{len(rows)}] {row.name}", flush=True)
        known = before.get(row.name, {})
        if known.get("status") == DONE and known["key"] == _result_key(bench, row):
            print("  done already", flush=True)
            results.append(known)
            continue
        try:
            result = fill_row(bench, row)
        except Exception as err:  # rows are supervised: one that fails must not take the others
            logger.exception("%s failed", row.name)
            reason = f"{type(err).__name__}: {err}".splitlines()[0]
            result = {"name": row.name, "status": FAILED, "error": reason}
        write_result(bench.out, result)
        results.append(result)
    return results


def fill_row(bench: Bench, row: Row) -> Result:
    """Train, export, measure, score."""
    result: dict[str, Any] = {"name": row.name, "key": _result_key(bench, row), "status": DONE}
    if row.bundle is not None:
        return {**result, "trained": None, **_measured(bench, row, find_bundle(row.bundle))}
    if row.name in bench.material.given:
        trained = trained_before(row, bench.checkpoint(row))
    else:
        init = None if row.init is None else bench.checkpoint(bench.gallery.named(row.init))
        trained = train_row(row, bench.material, bench.run_folder(row), init)
    result["trained"] = dataclasses.asdict(trained)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = export_row(row.name, bench.checkpoint(row), Path(scratch) / row.name)
        if bundle is None:
            return {**result, "task": "reconstruction", "scores": None}
        return {**result, **_measured(bench, row, bundle)}


def _measured(bench: Bench, row: Row, bundle: Path) -> dict[str, Any]:
    cost = measure_cost(bundle, find_bundle(bench.gallery.baseline))
    train = read_split(bench.material.split).select(bench.listening.collection, "train")
    return {
        "task": load_bundle(bundle).manifest.task,
        "parameters": parameters(row.recipe, train, row.changes),
        "cost": {**dataclasses.asdict(cost), "ratio": cost.ratio},
        "scores": score(bundle, bench.listening),
    }


def _result_key(bench: Bench, row: Row) -> str:
    """A committed bundle is known by its contents, a trained row by what trained it; both were
    scored on the clips of a split and a role, and their cost is in units of a baseline."""
    made = bench.key(row)
    if row.bundle is not None:
        made = load_bundle(find_bundle(row.bundle)).sha256
    baseline = load_bundle(find_bundle(bench.gallery.baseline))
    beside = baseline.manifest.graphs[baseline.choose("fp32").body].sha256[:16]
    return f"{made} {sha256_of(bench.material.split)[:16]} {bench.role} {beside}"


def chosen_rows(gallery: Gallery, names: Sequence[str] | None, source: Path) -> list[Row]:
    """Rows by name, each behind the row whose weights it begins with. Raises DataError."""
    if names is None:
        return list(gallery.rows)
    known = {row.name: row for row in gallery.rows}
    for name in names:
        if name not in known:
            raise DataError(source, 0, "--rows", name, "one of " + ", ".join(known))
    wanted = set(names)
    for row in reversed(gallery.rows):  # what a row begins with stands above it
        if row.name in wanted and row.init is not None:
            wanted.add(row.init)
    return [row for row in gallery.rows if row.name in wanted]


def write_section(out: Path, gallery: Gallery, rows: Sequence[Row], page: Path, name: str) -> None:
    """Only these rows into a part of a page, under its name; the texts reported nothing of it."""
    chosen = tuple(dataclasses.replace(row, group=name, reported="") for row in rows)
    text = markdown(Gallery(gallery.baseline, chosen), read_results(out, gallery))
    put_between(page, text, f"{MAKER}, {name}")


def write_page(out: Path, gallery: Gallery, page: Path) -> None:
    """The table so far into a page, and the pictures beside it."""
    results = read_results(out, gallery)
    pictures = draw(gallery, results, page.parent / "gallery")
    shown = "\n".join(f"![{name}](gallery/{name})\n" for name in pictures)
    put_between(page, markdown(gallery, results) + ("\n" + shown if shown else ""))


def main(argv: Sequence[str] | None = None) -> int:
    """Fill the table; 1 if a row failed."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.benchmark_models")
    parser.add_argument("--data", type=Path, help="folder with manifest.csv ($STREAMGUARD_DATA)")
    parser.add_argument("--table", type=Path, default=ROWS_FILE, help="file of rows")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="of training, for each row")
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="of a row that was trained beforehand: it is measured, and others begin with it",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gallery"), help="runs and results")
    parser.add_argument("--page", type=Path, help="Markdown page that gets the table")
    parser.add_argument("--section", metavar="NAME", help="of a part of the page, for these rows")
    parser.add_argument("--list", action="store_true", help="list the rows and what is done")
    parser.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
    parser.add_argument("--role", choices=ROLES, default="validation", help="what is scored")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    options = parser.parse_args(argv)
    if options.budget is not None and options.budget <= 0:
        parser.error("--budget: above zero")
    gallery = read_gallery(options.table)
    given = {}
    for word in options.checkpoint:
        name, equals, file = word.partition("=")
        if not equals or name not in {row.name for row in gallery.rows}:
            parser.error(f"--checkpoint: {word}: NAME=FILE, with the name of a row")
        given[name] = Path(file)
    rows = chosen_rows(gallery, options.rows, options.table)
    if options.list:
        done = read_results(options.out, gallery)
        for row in rows:
            print(f"{row.name:32} {done.get(row.name, {}).get('status', 'not run yet')}")
        return 0
    torch.set_num_threads(options.threads)
    data = data_folder(options.data)
    device = best_device()
    material = Material(data, options.cache, options.split, device, options.budget, given)
    results = fill(open_bench(gallery, material, options.out, options.role), rows)
    for result in results:
        if result["status"] == FAILED:
            print(f"{result['name']}: failed: {result['error']}")
    if options.page is not None and options.section is not None:
        write_section(options.out, gallery, rows, options.page, options.section)
    elif options.page is not None:
        write_page(options.out, gallery, options.page)
    return int(any(result["status"] == FAILED for result in results))


if __name__ == "__main__":
    raise SystemExit(run(main))
