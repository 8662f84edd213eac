"""Every test of inference runs with a guard on its event loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx


@pytest.fixture(autouse=True)
def _the_event_loop_never_blocks() -> Iterator[None]:
    with blockbuster_ctx():
        yield
