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

    bench = verbs.add_parser(
        "bench", help="CPU time and latency per window on this machine, or calls it can take"
    )
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    bench.add_argument(
        "--seconds", type=float, help="measuring time per target (20) or count of legs (6)"
    )
    bench.add_argument(
        "--source", choices=["rtp"], help="calls per process until the first lost packet"
    )
    bench.add_argument(
        "--ingest-only", action="store_true", help="with --source: without the networks"
    )

    verbs.add_parser("version", help="print the version")
    return parser


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
            if args.source == "rtp":
                from streamguard.bench_rtp import bench_rtp

                return bench_rtp(
                    as_json=args.json, seconds=args.seconds or 6.0, ingest_only=args.ingest_only
                )
            from streamguard.bench import bench

            return bench(as_json=args.json, seconds=args.seconds or 20.0)
        case _:
            raise AssertionError(args.verb)


if __name__ == "__main__":
    sys.exit(main())
