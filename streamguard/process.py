"""The daemon as a process: signals, event loop, exit status, and an end that always comes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from streamguard import __version__
from streamguard.app import Daemon
from streamguard.config import load_config
from streamguard.errors import StreamguardError
from streamguard.sources.rtp_socket import allow_many_sockets

logger = logging.getLogger(__name__)

GRACE_S = 0.5
"""Beyond the budget: the ladder itself keeps to it, so this is only for what hangs."""


def run_daemon(config_path: Path) -> int:
    """``streamguard run``: 0 after a graceful end. Raises ConfigError and what start-up raises."""
    config = load_config(config_path)
    allow_many_sockets()

    async def main() -> int:
        daemon = Daemon(config, config_path)
        _install_signals(daemon)
        logger.info("streamguard %s", __version__)
        await daemon.serve()
        return 1 if daemon.failed else 0

    status = 1
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            status = runner.run(main())
        except* StreamguardError as group:
            raise _first(group) from None
    return status


def _install_signals(daemon: Daemon) -> None:
    loop = asyncio.get_running_loop()
    asked = False

    def stop(number: signal.Signals) -> None:
        nonlocal asked
        if asked:
            # Twice means now. Dying by the signal itself tells our parent the truth.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        asked = True
        logger.info("%s: stopping; once more to force", number.name)
        _end_in_any_case(daemon.shutdown_budget_s)
        daemon.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload)
    loop.add_signal_handler(signal.SIGUSR1, daemon.drain)


def _end_in_any_case(budget_s: float) -> None:
    """The last rung: a thread that is stuck in a system call must not keep the process alive.

    What has been said is on disk by then: the outbox commits before anything is sent.
    """

    def end() -> None:
        logger.error("not stopped within %.1f s: leaving what hangs behind", budget_s)
        sys.stderr.flush()
        os._exit(1)

    timer = threading.Timer(budget_s + GRACE_S, end)
    timer.daemon = True
    timer.start()


def _first(group: BaseExceptionGroup[StreamguardError]) -> StreamguardError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, StreamguardError)
    return error


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: it reads sockets in bursts with less work per packet."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
