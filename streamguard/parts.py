"""The running pieces of the daemon, and which of them a new configuration touches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)

STUCK_S = 5.0
"""How long a cancelled piece may take to end before we go on without it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A piece that should be running."""

    settings: object
    """Equal settings mean: leave it alone."""
    run: Callable[[], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Part:
    settings: object
    task: asyncio.Task[None]


class Parts:
    """Named tasks of one TaskGroup, started and stopped by name.

    ``before_stop`` is awaited before a piece is cancelled, ``after_stop`` when it has ended.
    """

    def __init__(
        self,
        group: asyncio.TaskGroup,
        before_stop: Callable[[str, asyncio.Task[None]], Awaitable[None]],
        after_stop: Callable[[str], Awaitable[None]],
    ) -> None:
        self._group = group
        self._before_stop = before_stop
        self._after_stop = after_stop
        self._parts: dict[str, _Part] = {}

    def task(self, name: str) -> asyncio.Task[None] | None:
        """The task of a running piece."""
        part = self._parts.get(name)
        return part.task if part is not None else None

    def names(self, prefix: str = "") -> list[str]:
        return [name for name in self._parts if name.startswith(prefix)]

    def forget(self, name: str) -> None:
        """The piece has given up by itself; the next configuration may start it again."""
        self._parts.pop(name, None)

    async def reconcile(self, wanted: Mapping[str, Wanted]) -> None:
        """Stop what is not wanted any more, restart what has changed, start what is new."""
        for name in [n for n in self._parts if n not in wanted]:
            await self._stop(name)
        for name, piece in wanted.items():
            running = self._parts.get(name)
            if running is not None and running.settings == piece.settings:
                continue
            if running is not None:
                await self._stop(name)
            task = self._group.create_task(piece.run(), name=name)
            self._parts[name] = _Part(piece.settings, task)

    async def _stop(self, name: str) -> None:
        part = self._parts.pop(name)
        logger.info("stopping %s", name)
        await self._before_stop(name, part.task)
        part.task.cancel()
        await wait_for_end([part.task], STUCK_S)
        await self._after_stop(name)

    async def cancel(self, names: Iterable[str], timeout_s: float) -> None:
        """Cancel pieces and wait, but not for ever, until they have ended."""
        tasks = [self._parts[name].task for name in names if name in self._parts]
        for task in tasks:
            task.cancel()
        await wait_for_end(tasks, timeout_s)


async def wait_for_end(tasks: Iterable[asyncio.Task[None]], timeout_s: float) -> None:
    """Wait until all have ended, or log which of them have not."""
    pending = set(tasks)
    if not pending:
        return
    _, stuck = await asyncio.wait(pending, timeout=timeout_s)
    for task in stuck:
        logger.error("%s does not stop; going on without it", task.get_name())
