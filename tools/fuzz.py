"""Fuzz every parser for a while: ``python -m tools.fuzz --seconds 60 [--target NAME ...]``.

With Atheris (coverage-guided, ``pip install atheris``) where it is installed; else with mutations
of our own that are blind to coverage, which the first line then says. Inputs that break something
are written to ``build/fuzz/<target>``; the exit status is 1 if there are any. A mended one belongs
into ``tests/data/fuzz/<target>``: every test run tries those.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tools.command import run

BROKEN = Path("build") / "fuzz"
INPUT_TIMEOUT_S = 10
"""One input that takes longer is a defect: it is at most a few kilobytes."""
MEMORY_MB = 2_048
_INSIDE = "--inside"
KEPT_INPUTS, KEPT_BYTES = 30, 400
"""Of a target's grown corpus, by --keep: a few kilobytes, tried in every test run."""


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == [_INSIDE]:
        # The process that Atheris takes over: the parsers must not be imported before it is ready.
        _, name, corpus, seconds, given_seed = words
        return _fuzz_inside(name, Path(corpus), float(seconds), int(given_seed))
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument(
        "--target", action="append", choices=sorted(TARGETS), default=[], help="else all of them"
    )
    parser.add_argument("--blind", action="store_true", help="without coverage in any case")
    parser.add_argument(
        "--keep", action="store_true", help="add what reached more code to tests/data/fuzz"
    )
    parser.add_argument("--seed", type=int, default=None, help="of the mutations")
    options = parser.parse_args(words)
    seed = random.SystemRandom().getrandbits(31) if options.seed is None else options.seed
    guided = not options.blind and importlib.util.find_spec("atheris") is not None
    how = "Atheris, guided by coverage" if guided else "mutations that are blind to coverage"
    print(f"fuzzing with {how}; seed {seed}", flush=True)
    found = 0
    for name in options.target or sorted(TARGETS):
        print(f"{name}: ", end="", flush=True)
        if guided:
            broken, said = _fuzz_guided(name, options.seconds, seed, keep=options.keep)
        else:
            broken, said = _fuzz_blind(name, options.seconds, seed)
        found += broken
        print(said, flush=True)
    print(f"{found} inputs broke something" + (f"; see {BROKEN}" if found else ""))
    return 1 if found else 0


def _fuzz_blind(name: str, seconds: float, seed: int) -> tuple[int, str]:
    from tests.fuzz.mutate import mutate
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import TARGETS

    target, good = TARGETS[name], seeds(name)
    chance = random.Random(seed)  # noqa: S311  # damage to inputs, no secret
    pool = list(good)
    tried = 0
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        data = mutate(chance.choice(pool), good, chance)
        tried += 1
        try:
            target(data)
        except Exception:  # whatever it is: finding it is what we are here for
            path = _keep(name, data)
            return 1, f"broken after {tried} inputs by {path}\n{traceback.format_exc()}"
        if tried % 50 == 0:  # damage upon damage
            pool = [*good, *pool[len(good) :][-200:], data]
    return 0, f"{tried} inputs"


def _fuzz_guided(name: str, seconds: float, seed: int, *, keep: bool) -> tuple[int, str]:
    """In a process of its own: Atheris does not return."""
    before = set((BROKEN / name).glob("*"))
    with tempfile.TemporaryDirectory() as corpus:
        command = [sys.executable, "-m", "tools.fuzz", _INSIDE, name, corpus]
        command += [str(seconds), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if keep and done.returncode == 0:
            _keep_corpus(name, Path(corpus))
    new = sorted(set((BROKEN / name).glob("*")) - before)
    lines = done.stderr.splitlines() + done.stdout.splitlines()
    if done.returncode or new:
        shown = "\n".join(lines[-40:])
        return max(1, len(new)), f"broken by {', '.join(map(str, new)) or 'itself'}\n{shown}"
    coverage = re.findall(r" cov: (\d+) ", done.stderr)
    if not coverage:
        return 1, "blind: no coverage was measured, so nothing guided it"
    runs = next((line for line in reversed(lines) if line.startswith("Done ")), "done")
    return 0, f"{runs}, {coverage[-1]} branches reached"


def _keep_corpus(name: str, corpus: Path) -> None:
    """Small ones, evenly over those that there are."""
    from tests.fuzz.pieces import join
    from tests.fuzz.seeds import CORPUS, made

    known = set(made(name))
    found = [path.read_bytes() for path in sorted(corpus.iterdir())]
    small = [data for data in found if data not in known and len(data) <= KEPT_BYTES]
    chosen = small[:: max(1, -(-len(small) // KEPT_INPUTS))]
    if chosen:
        CORPUS.mkdir(parents=True, exist_ok=True)
        (CORPUS / f"{name}.bin").write_bytes(join(chosen))


def _fuzz_inside(name: str, corpus: Path, seconds: float, seed: int) -> int:
    import atheris  # type: ignore[import-untyped]  # it ships no type information

    with atheris.instrument_imports(include=["streamguard.protocols", "streamguard.audio"]):
        from tests.fuzz.seeds import seeds
        from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    (BROKEN / name).mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(data)
    arguments = [
        "fuzz",
        str(corpus),
        f"-max_total_time={max(1, round(seconds))}",
        f"-seed={seed}",
        f"-timeout={INPUT_TIMEOUT_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        "-max_len=8192",
        f"-artifact_prefix={BROKEN / name}/",
    ]
    atheris.Setup(arguments, target)
    atheris.Fuzz()  # ends the process, with its own status
    return 0


def _keep(name: str, data: bytes) -> Path:
    folder = BROKEN / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"input-{len(list(folder.glob('*')))}"
    path.write_bytes(data)
    return path


if __name__ == "__main__":
    raise SystemExit(run(main))
