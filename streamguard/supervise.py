"""Keep a source running: restart with backoff, up to a limit, and never in silence."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from streamguard.clock import Clock
from streamguard.errors import MissingExtraError, StreamguardError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often a source may die before the supervisor slows down."""

    first_delay_s: float = 0.5
    max_delay_s: float = 30.0
    burst: int = 5
    """Deaths within ``burst_window_s`` after which only ``max_delay_s`` is used: a source that
    keeps dying is degraded and said so, not hidden behind a busy loop."""
    burst_window_s: float = 60.0


class Supervisor:
    """Runs one coroutine function until it returns; restarts it when it raises.

    ``on_down(reason, degraded)`` is awaited after each death. Only :class:`StreamguardError` and
    :class:`OSError` are deaths to recover from; anything else is a defect and ends the daemon.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        on_down: Callable[[str, bool], Awaitable[None]],
        clock: Clock,
        policy: RestartPolicy | None = None,
    ) -> None:
        self._name = name
        self._run = run
        self._on_down = on_down
        self._clock = clock
        self._policy = policy or RestartPolicy()
        self._deaths: deque[float] = deque(maxlen=self._policy.burst)
        self.restarts = 0

    async def serve(self) -> None:
        """Return when the source has finished by itself (a file was played to its end)."""
        attempt = 0
        while True:
            started = self._clock.monotonic()
            try:
                await self._run()
            except MissingExtraError:
                raise  # no restart will install it
            except (StreamguardError, OSError) as err:
                reason = str(err)
            else:
                return
            now = self._clock.monotonic()
            if now - started > self._policy.burst_window_s:
                attempt = 0  # it worked for a while: this is a new trouble
            attempt += 1
            self.restarts += 1
            self._deaths.append(now)
            degraded = (
                len(self._deaths) == self._policy.burst
                and now - self._deaths[0] <= self._policy.burst_window_s
            )
            await self._on_down(reason, degraded)
            delay = self.delay_s(attempt, degraded)
            logger.warning(
                "source %s died (%s); restart %d in %.1f s%s",
                self._name,
                reason,
                self.restarts,
                delay,
                " (degraded: it keeps dying)" if degraded else "",
            )
            await asyncio.sleep(delay)

    def delay_s(self, attempt: int, degraded: bool) -> float:
        """Full jitter under an exponential ceiling; the ceiling itself when degraded."""
        ceiling = min(self._policy.max_delay_s, self._policy.first_delay_s * 2 ** (attempt - 1))
        if degraded:
            return self._policy.max_delay_s
        # Jitter keeps a hundred sources of one dead switch from coming back in the same instant.
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311  # not a secret
