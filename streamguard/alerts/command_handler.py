"""Carries out what operators ask for, and says what came of it."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from streamguard.alerts.commands import CommandError, parse_ack, parse_drain, parse_suppress
from streamguard.alerts.desk import AlertDesk
from streamguard.alerts.suppression import Suppression
from streamguard.alerts.topics import Topics
from streamguard.clock import Clock

log = logging.getLogger(__name__)


class CommandHandler:
    """``counts`` has the outcomes: ``ok``, or the code of why a command was refused.

    ``drain`` is called for ``cmd/drain``; who has none to give (a test of the broker) refuses it.
    """

    def __init__(
        self, topics: Topics, desk: AlertDesk, clock: Clock, drain: Callable[[], None] | None = None
    ) -> None:
        self._topics = topics
        self._desk = desk
        self._clock = clock
        self._drain = drain
        self.counts: Counter[str] = Counter()

    async def obey(self, topic: str, payload: bytes, retained: bool) -> dict[str, Any]:
        """The result, for ``cmd/result``: ``command``, ``ok``, ``error``, and what was done."""
        name = topic.rsplit("/", 1)[-1]
        result: dict[str, Any] = {"command": name, "ok": True, "error": None}
        try:
            if retained:
                # It would be obeyed again on every connection, for ever.
                raise CommandError("retained", "commands must not be retained")
            if topic == self._topics.acknowledge:
                result |= await self._acknowledge(payload)
            elif topic == self._topics.drain:
                result |= self._start_draining(payload)
            else:
                result |= await self._suppress(payload)
        except CommandError as err:
            log.warning("command %s refused: %s", name, err.reason)
            self.counts[err.code] += 1
            return result | {"ok": False, "error": err.reason}
        self.counts["ok"] += 1
        return result

    async def _acknowledge(self, payload: bytes) -> dict[str, Any]:
        command = parse_ack(payload)
        alert = await self._desk.acknowledge(command.alert_id, command.operator, command.note)
        if alert is None:
            raise CommandError("unknown_alert", "no open alert has this alert_id")
        return {
            "alert_id": alert.alert_id,
            "revision": alert.revision,
            "request_id": command.request_id,
        }

    def _start_draining(self, payload: bytes) -> dict[str, Any]:
        command = parse_drain(payload)
        if self._drain is None:
            raise CommandError("no_calls", "nothing here takes calls")
        log.warning("%s asks to drain", command.operator)
        self._drain()
        return {"request_id": command.request_id}

    async def _suppress(self, payload: bytes) -> dict[str, Any]:
        command = parse_suppress(payload)
        rule = Suppression(
            rule_id=uuid.uuid4().hex,
            field=command.field,
            value=command.value,
            operator=command.operator,
            reason=command.reason,
            expires_utc=self._clock.utc() + command.duration_s,
        )
        try:
            await self._desk.suppress(rule)
        except ValueError as err:
            raise CommandError("too_many", str(err)) from err
        return {"rule_id": rule.rule_id, "request_id": command.request_id}
