from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from streamguard.demo.child import Child
from streamguard.demo.legs import DemoError

StartChild = Callable[[str], Awaitable[Child]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StartChild:
    """Starts a child that runs this source."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write_and_start(source: str) -> Awaitable[Child]:
        (tmp_path / "child_under_test.py").write_text(source)
        return Child.start("child_under_test")

    return write_and_start


async def test_a_child_that_dies_says_why(start: StartChild) -> None:
    child = await start("raise SystemExit('no luck today')")
    with pytest.raises(DemoError, match="no luck today"):
        await child.expect("ready", 10.0)
    assert await child.stop() == 1


async def test_a_child_that_says_nothing_is_not_waited_for_forever(start: StartChild) -> None:
    child = await start("import sys; sys.stdin.read()")
    with pytest.raises(DemoError, match="no 'ready' within"):
        await child.expect("ready", 0.1)
    assert await child.stop() == 0


async def test_another_event_than_the_expected_one_is_an_error(start: StartChild) -> None:
    child = await start("from streamguard.demo.child import tell; tell('surprise')")
    with pytest.raises(DemoError, match="surprise"):
        await child.expect("ready", 10.0)
    await child.stop()


async def test_a_child_that_ignores_its_input_is_terminated(
    start: StartChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamguard.demo.child._GRACE_S", 0.2)
    child = await start(
        "import time; from streamguard.demo.child import tell; tell('ready'); time.sleep(60)"
    )
    await child.expect("ready", 10.0)
    assert await child.stop() == -15


async def test_a_child_with_a_full_pipe_still_ends(start: StartChild) -> None:
    child = await start(
        "import sys\nfrom streamguard.demo.child import tell\ntell('ready')\n"
        "for _ in range(5000): tell('noise', x='y' * 100)\nsys.stdin.read()"
    )
    await child.expect("ready", 10.0)
    assert await child.stop() == 0
