"""Blocking calls that nothing waits for when the process ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def run_detached(
    call: Callable[[], T], name: str, discard: Callable[[T], None] | None = None
) -> T:
    """As ``asyncio.to_thread``, on a daemon thread of its own.

    The loop's default executor is joined before the process may end, whatever its threads hang in
    (a name server, a network share, a driver); this thread is simply left behind.

    Args:
        name: Of the thread.
        discard: What to do with a result that comes after the caller was cancelled, or with it;
            on the thread, or on the loop where the result is there already: must not block.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def work() -> None:
        try:
            result = call()
        except BaseException as err:  # whoever awaits it is to get it, as from an executor
            outcome.set_exception(err)
        else:
            outcome.set_result(result)

    def throw_away(late: Future[T]) -> None:
        if discard is not None and late.exception() is None:
            discard(late.result())

    threading.Thread(target=work, name=name, daemon=True).start()
    try:
        return await asyncio.wrap_future(outcome)
    except asyncio.CancelledError:
        outcome.add_done_callback(throw_away)
        raise
