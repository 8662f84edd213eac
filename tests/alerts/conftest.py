"""Every test here: no blocking call on the event loop, no thread and no task left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from blockbuster import BlockBuster, blockbuster_ctx

from tests.alerts.broker import Broker


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    with blockbuster_ctx() as guard:
        yield guard


@pytest_asyncio.fixture(autouse=True)
async def no_leftovers() -> AsyncIterator[None]:
    yield
    current = asyncio.current_task()
    tasks = [t.get_name() for t in asyncio.all_tasks() if t is not current]
    assert tasks == []
    ours = [t for t in threading.enumerate() if t.name.startswith("streamguard")]
    for thread in ours:  # an attempt to connect that was given up may have its last moments
        await asyncio.to_thread(thread.join, 2)
    names = [thread.name for thread in ours if thread.is_alive()]
    assert names == []


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as running:
        yield running
