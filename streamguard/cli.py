"""The command line: verbs only. Exit codes: 0 ok, 1 failed, 2 usage or configuration error."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from streamguard import __version__
from streamguard.console import complain, say, silence_stdout
from streamguard.errors import ConfigError, StreamguardError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
PICTURES = (".png", ".svg", ".pdf")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamguard",
        description="Real-time monitor for synthetic speech on calls and microphones.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    run = verbs.add_parser("run", help="monitor the sources of a configuration until stopped")
    run.add_argument("config", type=Path, metavar="CONFIG")

    check = verbs.add_parser("check", help="validate a configuration and say in words what it does")
    check.add_argument("config", type=Path, metavar="CONFIG")
    check.add_argument("--json", action="store_true", help="print one JSON object")

    check.add_argument(
        "--hash-identity",
        choices=["number", "trunk"],
        help="read numbers or trunks from standard input, one a line, and print their hashes",
    )

    verbs.add_parser("schema", help="print the JSON Schema of the configuration")

    devices = verbs.add_parser("devices", help="list sound cards and inference providers")
    devices.add_argument("--json", action="store_true", help="print one JSON object")

    models = verbs.add_parser("models", help="list the model bundles that can be named")
    models.add_argument("--json", action="store_true", help="print one JSON object")

    engine = verbs.add_parser("engine", help="engine targets, and the plans that some need built")
    actions = engine.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="targets, whether they run here, and stored plans")
    listed.add_argument("--json", action="store_true", help="print one JSON object")
    build = actions.add_parser("build", help="compile the plans of a TensorRT target, once per GPU")
    build.add_argument(
        "--target", required=True, metavar="NAME", help="a packaged target, or the path of a file"
    )
    build.add_argument(
        "--bundle",
        action="append",
        metavar="NAME",
        help="a packaged bundle or a folder; may be given again (the default pair)",
    )
    build.add_argument("--force", action="store_true", help="build even what is there")

    analyze = verbs.add_parser(
        "analyze", help="score audio files through the same path as live audio"
    )
    analyze.add_argument("files", nargs="+", metavar="FILE", help="any file that libsndfile reads")
    analyze.add_argument("--config", type=Path, help="models, gate and rule of this configuration")
    analyze.add_argument("--json", action="store_true", help="one JSON object per line and file")
    analyze.add_argument(
        "--plot",
        type=_picture,
        metavar="PNG",
        help="draw waveform, window LLRs, state and rejections; one picture per file",
    )
    analyze.add_argument(
        "--explain", action="store_true", help="list every window and why it was rejected"
    )

    publish = verbs.add_parser(
        "publish-test", help="send one clearly marked test alert to the broker of a configuration"
    )
    publish.add_argument("config", type=Path, metavar="CONFIG")

    demo = verbs.add_parser("demo", help="four call legs over real RTP, alerts over MQTT; a minute")
    demo.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    demo.add_argument("--plain", action="store_true", help="lines instead of a live table")
    demo.add_argument(
        "--human", type=Path, metavar="WAV", help="use this recording as the human voice"
    )
    demo.add_argument(
        "--record", type=int, metavar="SECONDS", help="record the human voice from the microphone"
    )

    _bench_parser(verbs)

    verbs.add_parser("version", help="print the version")
    return parser


def _bench_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bench = verbs.add_parser(
        "bench", help="CPU time and latency per window on this machine, and calls it can take"
    )
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    bench.add_argument("--detector", metavar="NAME", help="bundle, by name or folder")
    bench.add_argument("--attribution", metavar="NAME", help="bundle, or 'none'")
    bench.add_argument("--engine", nargs="+", metavar="NAME", help="one or several engine targets")
    bench.add_argument(
        "--latency-budget-ms",
        type=_positive,
        metavar="MS",
        help="for 99 of 100 verdicts, from the last sample of a hop (150)",
    )
    bench.add_argument(
        "--attributed-share",
        type=_share,
        metavar="SHARE",
        help="of legs whose windows lean to spoof (0.1)",
    )
    bench.add_argument(
        "--seconds", type=_positive, help="measuring time per target (12) or count of legs (6)"
    )
    bench.add_argument(
        "--no-capacity", action="store_true", help="cost per window only: legs are not counted"
    )
    bench.add_argument("--compare", type=Path, metavar="JSON", help="an earlier bench --json")
    bench.add_argument("--plot", type=_picture, metavar="PNG", help="draw the cost per window")
    bench.add_argument(
        "--source", choices=["rtp"], help="only calls per process until the first lost packet"
    )
    bench.add_argument(
        "--ingest-only", action="store_true", help="with --source: without the networks"
    )


def _positive(text: str) -> float:
    value = _number(text)
    if not 0.0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: allowed is more than 0, below a million")
    return value


def _share(text: str) -> float:
    value = _number(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text}: allowed are 0 to 1")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(f"{text}: not a number") from err


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text}: allowed are {', '.join(PICTURES)}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no folder {path.parent}")
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code. argparse itself exits 2 on wrong usage."""
    args = _parser().parse_args(argv)
    # What is wrong is said by the verbs; only the daemon logs, and sets that up itself.
    logging.getLogger("streamguard").addHandler(logging.NullHandler())
    try:
        code = _dispatch(args)
        if sys.stdout is not None:  # None where it was closed before we started
            sys.stdout.flush()
    except ConfigError as err:
        complain(str(err))
        return EXIT_USAGE
    except StreamguardError as err:
        complain(f"streamguard: {err}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        complain("streamguard: interrupted")
        return EXIT_FAILED
    except BrokenPipeError:
        # The reader of our output (head, less) has left: nothing to complain about.
        silence_stdout()
        return EXIT_FAILED
    except OSError as err:
        if err.errno != errno.ENOSPC:
            raise
        complain(f"streamguard: {err.strerror}")
        silence_stdout()
        return EXIT_FAILED
    return code


def _dispatch(args: argparse.Namespace) -> int:
    # Imports are inside the verbs: `streamguard --help` loads neither numpy nor the runtimes.
    match args.verb:
        case "version":
            say(__version__)
            return EXIT_OK
        case "schema":
            from streamguard.config import config_schema

            say(json.dumps(config_schema(), indent=2))
            return EXIT_OK
        case "run":
            from streamguard.process import run_daemon

            return run_daemon(args.config)
        case "check":
            if args.hash_identity:
                from streamguard.commands.identity import hash_identities

                return hash_identities(args.config, args.hash_identity)
            from streamguard.commands.check import check

            return check(args.config, as_json=args.json)
        case "devices":
            from streamguard.commands.listing import devices

            return devices(as_json=args.json)
        case "models":
            from streamguard.commands.listing import models

            return models(as_json=args.json)
        case "engine":
            from streamguard.commands.engine import build_plans, list_engines

            if args.action == "list":
                return list_engines(as_json=args.json)
            return build_plans(args.target, args.bundle, force=args.force)
        case "analyze":
            from streamguard.commands.analyze import analyze

            return analyze(
                args.files,
                config=args.config,
                as_json=args.json,
                plot=args.plot,
                explain=args.explain,
            )
        case "publish-test":
            from streamguard.commands.publish_test import publish_test

            return publish_test(args.config)
        case "demo":
            from streamguard.demo.main import demo

            return demo(as_json=args.json, plain=args.plain, human=args.human, record_s=args.record)
        case "bench":
            if args.source and (args.compare or args.plot):
                complain("streamguard bench: --compare and --plot do not go with --source")
                return EXIT_USAGE
            if args.ingest_only and not args.source:
                complain("streamguard bench: --ingest-only needs --source")
                return EXIT_USAGE
            return _bench(args)
        case _:
            raise AssertionError(args.verb)


def _bench(args: argparse.Namespace) -> int:
    from streamguard.bench.options import BenchOptions

    given = {
        "detector": args.detector,
        "engines": tuple(args.engine) if args.engine else None,
        "latency_budget_ms": args.latency_budget_ms,
        "attributed_share": args.attributed_share,
        "trial_s" if args.source else "seconds": args.seconds or (6.0 if args.source else None),
        "capacity": False if args.no_capacity else None,
        "compare": args.compare,
        "plot": args.plot,
    }
    options = {name: value for name, value in given.items() if value is not None}
    if args.attribution is not None:
        options["attribution"] = None if args.attribution == "none" else args.attribution
    if args.source == "rtp":
        from streamguard.bench.rtp import bench_rtp

        return bench_rtp(BenchOptions(**options), as_json=args.json, ingest_only=args.ingest_only)
    from streamguard.bench.main import bench

    return bench(BenchOptions(**options), as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
