"""Whether new calls are taken: not while the daemon drains, nor while it cannot keep up."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from streamguard.sources.base import Refusal, Source

logger = logging.getLogger(__name__)

FULL_LOAD = 0.9
"""Share of the inference thread's time beyond which waiting audio is no passing stall."""
RECOVERY_S = 10.0
"""Without a sign of overload for this long, calls are taken again: the calls that were there have
shown that they fit, and a caller who was refused has not tried again yet."""


class Admission:
    """Tells every source to refuse calls, and when to take them again.

    ``sources`` is the live register of the running sources; whoever adds one to it calls
    :meth:`admit`. Calls that are up are never touched.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self._dropped = 0
        self._backlogs = 0
        self._shed = 0
        self._overloaded_until: float | None = None
        self._shedding_until: float | None = None
        self.draining = False

    @property
    def refusal(self) -> Refusal | None:
        """Why calls are refused now."""
        if self.draining:
            return Refusal.DRAINING
        return Refusal.OVERLOAD if self._overloaded_until is not None else None

    @property
    def given_up(self) -> tuple[str, ...]:
        """What overload has cost lately, in the order in which it is given up; for people."""
        said = ["overload: attribution is shed"] if self._shedding_until is not None else []
        if self._overloaded_until is not None:
            said.append("overload: new calls are refused")
        return tuple(said)

    def admit(self, source: Source) -> None:
        """A new source is under the rule of the hour."""
        source.refuse_calls(self.refusal)

    def drain(self) -> None:
        """No new calls from now on; there is no way back."""
        self.draining = True
        self._tell()

    def observe(
        self, *, dropped: int, backlogs: int, load: float, now: float, shed: int = 0
    ) -> None:
        """Take what inference counts, once a second.

        ``dropped``: blocks of live audio dropped, and windows that came too late, so far;
        ``backlogs``: late batches so far behind which a whole further batch of live audio waited;
        ``load``: share of the thread's time in use. One dropped block is a call heard badly; a
        backlog alone is a stall, under full load it grows. ``shed``: windows so far whose
        attribution was given up, which refuses nobody.
        """
        if shed > self._shed:
            self._shedding_until = now + RECOVERY_S
        elif self._shedding_until is not None and now >= self._shedding_until:
            self._shedding_until = None
        self._shed = shed
        ill = dropped > self._dropped or (backlogs > self._backlogs and load > FULL_LOAD)
        self._dropped, self._backlogs = dropped, backlogs
        before = self._overloaded_until
        if ill:
            self._overloaded_until = now + RECOVERY_S
        elif before is not None and now >= before:
            self._overloaded_until = None
        if (before is None) != (self._overloaded_until is None):
            self._tell()

    def _tell(self) -> None:
        refusal = self.refusal
        if refusal is None:
            logger.info("new calls are taken again")
        else:
            logger.warning("new calls are refused: %s", refusal.value)
        for source in self._sources.values():
            source.refuse_calls(refusal)
