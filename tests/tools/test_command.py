"""Command lines of the tools fail with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import make_split
from tools.command import run


def test_bad_input_is_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.csv").write_text("path,set\n")
    assert run(lambda: make_split.main(["--data", str(tmp_path)])) == 1
    assert capsys.readouterr().err.strip().endswith("a column of this name must exist")


def test_a_defect_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)
