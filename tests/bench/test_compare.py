"""Two reports side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from streamguard.bench.compare import (
    CompareError,
    Difference,
    differences,
    print_differences,
    read_report,
)


def report(cpu_ms: float, legs: int | None = None, processor: str = "one") -> dict[str, Any]:
    return {
        "machine": {"processor": processor, "cores": 2},
        "versions": {"numpy": "2.0"},
        "targets": {
            "cpu-fp32": {
                "cpu_ms_per_window": cpu_ms,
                "stages": {"gate": {"cpu_ms": cpu_ms / 4}},
            },
            "reference": {"why_not_measured": "no torch"},
        },
        "ratios": {"detection": {"cpu-fp32": 30.0}},
        "capacity": {"engine_legs": legs, "rtp_legs": None},
    }


def test_figures_that_both_have_are_compared_by_name() -> None:
    found = {x.name: x for x in differences(report(4.0), report(2.0, legs=300))}
    assert found["cpu-fp32: CPU ms per window"] == Difference(
        "cpu-fp32: CPU ms per window", 4.0, 2.0
    )
    assert found["cpu-fp32: gate: CPU ms"].factor == 0.5
    assert found["cpu-fp32: reference / detection"].factor == 1.0
    assert not any(name.startswith("capacity") for name in found)  # then it was not measured


def test_a_figure_that_was_nothing_has_no_factor() -> None:
    assert Difference("x", 0.0, 3.0).as_json()["factor"] is None


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), ("{", "is not JSON"), ("[]", "not a report"), ("{}", "not a rep")],
)
def test_what_is_no_report_is_named_with_its_fault(
    tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "earlier.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CompareError, match=said) as error:
        read_report(path)
    assert str(path) in str(error.value)


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "earlier.json"
    path.write_text(json.dumps(report(3.0)))
    assert read_report(path) == report(3.0)


@pytest.mark.parametrize(("processor", "warned"), [("one", False), ("two", True)])
def test_another_machine_is_said(tmp_path: Path, processor: str, warned: bool) -> None:
    console = Console(record=True, width=120, quiet=False, file=(tmp_path / "out").open("w"))
    print_differences(console, report(4.0), report(2.0, processor=processor), tmp_path)
    text = console.export_text()
    console.file.close()
    assert ("another machine" in text) is warned
    assert "0.50" in text
