"""Run the demo for real and keep its last table and its summary as the README's picture.

python -m tools.record_demo .github/demo.svg
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from streamguard.demo.main import DemoRun
from streamguard.demo.table import table
from streamguard.demo.voices import build_legs

COLUMNS = 104


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the picture was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path, help="the SVG file to write")
    options = parser.parse_args(arguments)
    run = DemoRun(build_legs(), Console(stderr=True))
    report = asyncio.run(run.run())
    record = Console(record=True, width=COLUMNS, file=sys.stderr, force_terminal=True)
    record.print(table(run.rows))
    for line in run.alert_lines:
        record.print(line, style="red", markup=False, highlight=False)
    record.print()
    record.print(report.as_text(), markup=False, highlight=False)
    record.save_svg(str(options.picture), title="make demo")
    return 0


if __name__ == "__main__":
    sys.exit(main())
