"""Make spoofed speech to train with: copies of human clips, and text read by programs."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from streamguard.errors import StreamguardError
from tools.command import run
from tools.corpus import copying, manifest, speaking
from tools.corpus.manifest import detail
from tools.corpus.methods import METHODS
from tools.corpus.voices import PROGRAMS
from tools.data import (
    DEFAULT_SPLIT,
    ROLES,
    AudioCache,
    Clip,
    Corpus,
    DataError,
    chosen_corpus,
    corpus_options,
    read_split,
)

DEFAULT_CACHE = Path.home() / ".cache" / "streamguard" / "train"


class OutputExists(StreamguardError):
    """The folder holds a corpus already."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder}: holds a manifest.csv already; give an empty folder with --out")


class NothingToDoError(StreamguardError):
    """No method was asked for."""

    def __init__(self) -> None:
        super().__init__("--methods none: needs a --network to copy with")


def copy(options: argparse.Namespace) -> int:
    """Copy the human clips of a role; print what was made and how like it is."""
    if not options.methods and not options.networks:
        raise NothingToDoError
    _claim(options.out)
    methods = [METHODS[name] for name in options.methods]
    if options.networks:
        from tools.corpus.neural.copier import neural_method  # torch, only where it is asked for

        methods += [neural_method(path) for path in options.networks]
    corpus, cache, human = _human_clips(options)
    names = [method.name for method in methods]
    tasks = copying.plan(human, names, options.per_clip, options.limit, options.seed)
    copiers = copying.prepare(methods, human, cache, options.seed)
    copies = list(
        copying.make_copies(tasks, copiers, cache, options.out, options.seed, options.workers)
    )
    technologies = {method.name: method.technology for method in methods}
    published = _published(corpus)
    manifest.write(
        options.out / "manifest.csv",
        (
            {
                **published.get(made.task.clip.path, {}),
                **{
                    name: value
                    for name, value in dataclasses.asdict(made.task.clip).items()
                    if name in manifest.COLUMNS
                },
                "path": made.file.relative_to(options.out).as_posix(),
                "label": "spoof",
                "technology": technologies[made.task.method],
                "generator": made.task.method,
                "detail": made.detail,
                "dataset": "copy-synthesis",
                **manifest.describe(made.file),
            }
            for made in copies
            if made.file is not None
        ),
    )
    _report(copies, names)
    return 0


def _human_clips(options: argparse.Namespace) -> tuple[Corpus, AudioCache, list[Clip]]:
    """The bona fide clips of the role; raises ``DataError`` if there are none."""
    corpus = chosen_corpus(options)
    cache = AudioCache.open(corpus.root, options.cache, corpus.clips)
    role = corpus.select(options.role, read_split(options.split))
    human = [c for c in role if c.label == "bonafide" and copying.usable(cache.samples(c))]
    if not human:
        raise DataError(options.split, 0, "sources", options.role, "a role with bona fide clips")
    return corpus, cache, human


def _published(corpus: Corpus) -> Mapping[str, Mapping[str, str]]:
    """By path, what the manifest says beyond a ``Clip``, the licence for one."""
    file = corpus.root / "manifest.csv"
    if not file.is_file():
        return {}
    kept = ("source_path", "source_commit", "license", "source_seconds")
    with file.open(newline="", encoding="utf-8") as stream:
        return {
            row["path"]: {name: row[name] for name in kept if name in row}
            for row in csv.DictReader(stream)
        }


def _report(copies: Sequence[copying.Copy], methods: Sequence[str]) -> None:
    print("generator         clips  thrown  CPU ms  dist. dB  corr.    5 %")
    for name in methods:
        made = [copy for copy in copies if copy.task.method == name]
        if not made:
            continue
        kept = sum(copy.file is not None for copy in made)
        correlation = [copy.likeness.correlation for copy in made]
        print(
            f"{name:16}{kept:7}{len(made) - kept:8}"
            f"{1000 * np.mean([copy.cpu_s for copy in made]):8.0f}"
            f"{np.median([copy.likeness.distance_db for copy in made]):10.1f}"
            f"{np.median(correlation):7.2f}{np.quantile(correlation, 0.05):7.2f}"
        )


def speak(options: argparse.Namespace) -> int:
    """Have sentences of our own read; print how many by which program."""
    _claim(options.out)
    programs = [PROGRAMS[name] for name in options.programs]
    made = list(speaking.speak(programs, options.count, options.out, options.seed, options.workers))
    manifest.write(
        options.out / "manifest.csv",
        (
            {
                "path": spoken.file.relative_to(options.out).as_posix(),
                "set": "core",
                "label": "spoof",
                "technology": "tts",
                "generator": spoken.program.generator,
                "source_repo": spoken.program.source,
                "speaker": spoken.voice.speaker,
                "language": spoken.voice.language,
                "orig_sr": spoken.rate_hz,
                "detail": detail({**spoken.voice.drawn, "text": spoken.text}),
                "dataset": "classical synthesis",
                **manifest.describe(spoken.file),
            }
            for spoken in made
        ),
    )
    for program in programs:
        clips = [spoken for spoken in made if spoken.program is program]
        voices = len({spoken.voice.speaker for spoken in clips})
        print(f"{program.generator}: {len(clips)} clips, {voices} voices")
    return 0


def train(options: argparse.Namespace) -> int:
    """Train, or resume training, the vocoder or the codec on human clips."""
    import torch  # only where it is asked for

    from tools.corpus.neural.recipes import recipe_of
    from tools.corpus.neural.trainer import Trainer

    torch.set_num_threads(options.workers)
    _, cache, human = _human_clips(options)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = recipe_of(options.kind, options.seed, options.steps)
    speech = [copying.to_float(cache.samples(clip)) for clip in human]
    trainer = Trainer(recipe, options.run_folder, speech, device)
    if options.resume and trainer.checkpoint.exists():
        trainer.resume()
    parameters = sum(weights.numel() for weights in trainer.network.parameters())
    print(f"{options.kind}: {parameters} parameters, {len(speech)} clips, on {device}")
    trainer.fit()
    print(f"trained to step {trainer.step}: {trainer.checkpoint}")
    return 0


def _claim(folder: Path) -> None:
    if (folder / "manifest.csv").exists():
        raise OutputExists(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    """The type of an option that takes some of these names, separated by commas."""

    def names(text: str) -> list[str]:
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r}: one of {', '.join(known)}")
        return text.split(",")

    return names


def _methods(text: str) -> list[str]:
    return [] if text == "none" else _names(METHODS)(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number above zero")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """One subcommand per kind of speech, and two that train what makes it."""
    parser = argparse.ArgumentParser(prog="python -m tools.corpus", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    copies = commands.add_parser("copy", help="copy-synthesis of human clips")
    copies.set_defaults(run=copy)
    copies.add_argument(
        "--methods",
        type=_methods,
        default=list(METHODS),
        help="default: all of them; 'none': only what --network names",
    )
    copies.add_argument(
        "--network",
        dest="networks",
        type=Path,
        action="append",
        default=[],
        metavar="CHECKPOINT",
        help="a vocoder or codec of train-vocoder or train-codec, as one more method",
    )
    copies.add_argument("--per-clip", type=_count, default=4, help="copies of each clip")
    copies.add_argument("--limit", type=_count, help="copies in all")

    spoken = commands.add_parser("speak", help="text read by espeak-ng, flite, festival")
    spoken.set_defaults(run=speak)
    spoken.add_argument("--count", type=_count, default=600, help="clips in all")
    spoken.add_argument(
        "--programs",
        type=_names(PROGRAMS),
        default=[name for name, program in PROGRAMS.items() if program.installed],
        help="default: those that are installed",
    )

    trainers = []
    for kind in ("vocoder", "codec"):
        trainer = commands.add_parser(f"train-{kind}", help=f"train the small neural {kind}")
        trainer.set_defaults(run=train, kind=kind)
        trainer.add_argument("--run", dest="run_folder", type=Path, required=True)
        trainer.add_argument("--steps", type=_count, help="default: those of the recipe")
        trainer.add_argument("--resume", action="store_true", help="continue from last.pt")
        trainers.append(trainer)

    for command in (copies, spoken):
        command.add_argument("--out", type=Path, required=True, help="a new folder")
    for command in (copies, *trainers):
        corpus_options(command)
        command.add_argument("--split", type=Path, default=DEFAULT_SPLIT)
        command.add_argument("--role", choices=ROLES, default="train")
        command.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="decoded audio")
    for command in (copies, spoken, *trainers):
        command.add_argument("--seed", type=int, default=1)
        command.add_argument("--workers", type=_count, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    return int(options.run(options))


if __name__ == "__main__":
    raise SystemExit(run(main))
