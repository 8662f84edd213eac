"""In CI no test may be skipped for want of its peer: :func:`tests.conftest` makes it fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
TESTS = """
import pytest

@pytest.mark.peer
def test_with_a_peer_that_is_not_there():
    pytest.skip("sipp is not installed")

@pytest.mark.peer
@pytest.mark.skipif(True, reason="no sipp")
def test_skipped_by_a_condition(): ...

@pytest.mark.peer
@pytest.mark.xfail(reason="known")
def test_known_to_fail():
    raise AssertionError

def test_without_a_peer():
    pytest.skip("no data")
"""


@pytest.mark.parametrize(
    ("in_ci", "code", "counts"),
    [
        ("true", 1, "1 failed, 1 skipped, 1 xfailed, 1 error"),
        ("", 0, "3 skipped, 1 xfailed"),
        ("false", 0, "3 skipped, 1 xfailed"),
    ],
)
def test_a_missing_peer_fails_in_ci_and_is_skipped_elsewhere(
    in_ci: str, code: int, counts: str, tmp_path: Path
) -> None:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = peer: needs a program\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", str(tmp_path)],
        env=os.environ | {"CI": in_ci, "PYTEST_ADDOPTS": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert counts in done.stdout
    assert done.returncode == code
    assert ("must be there. Skipped: sipp is not installed" in done.stdout) is (code == 1)
