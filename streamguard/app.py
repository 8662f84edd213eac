"""The daemon: one configuration, one TaskGroup; start, serve, re-read, shut down."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from streamguard.alerts.desk import AlertDesk
from streamguard.alerts.publisher import Publisher
from streamguard.alerts.topics import Topics
from streamguard.clock import Clock, SystemClock
from streamguard.config import Config, load_config
from streamguard.errors import (
    AudioFileError,
    ConfigError,
    MissingExtraError,
    SourceError,
    StreamguardError,
)
from streamguard.events import EndReason, SourceDown, SourceEvent
from streamguard.facts import Judging
from streamguard.inference.handover import ScorerLike
from streamguard.inference.pair import open_models
from streamguard.inference.worker import InferenceWorker
from streamguard.monitor import Monitor
from streamguard.observe import Observation
from streamguard.parts import Parts, Wanted
from streamguard.policy import Policy
from streamguard.scoring import make_scorer, pair_names
from streamguard.settings import secrets_in
from streamguard.sources.make import make_source
from streamguard.sources.pcap_settings import PcapSettings
from streamguard.sources.settings import FileSettings, MicSettings, SourceSettings
from streamguard.status import StatusBoard
from streamguard.supervise import Supervisor
from streamguard.telemetry.http import HealthServer, HttpError
from streamguard.telemetry.lag import sample_loop_lag
from streamguard.telemetry.log import configure_logging
from streamguard.telemetry.metrics import Metrics
from streamguard.telemetry.redaction import Redactor

logger = logging.getLogger(__name__)

SOURCE = "source:"
"""Begins the names of the parts that are sources."""


GIL_HANDOVER_S = 0.001
"""How long one Python thread keeps another waiting. Inference comes back from a network four times
a batch; behind an event loop full of packets it would wait 5 ms (Python's default) each time. Of
290 legs over RTP on two cores 99 of 100 verdicts come within 20 to 23 ms, with 5 ms within 22 to
29, with 0.2 ms within 23 to 54: then the two take turns too often."""
DRAIN_TICK_S = 0.5
"""How often a draining daemon looks whether a call is left."""


class Daemon:
    """Owns everything that runs. :meth:`serve` returns when it has been asked to stop."""

    def __init__(self, config: Config, config_path: Path, clock: Clock | None = None) -> None:
        self._config = config
        self._path = config_path
        self._clock = clock or SystemClock()
        self._redactor = Redactor()
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._drain = asyncio.Event()
        self._played: set[str] = set()
        """File sources that have come to their end."""
        self._publisher: Publisher | None = None
        self.failed = False
        """Whether a defect, and nobody's wish, has ended it."""
        self.metrics = Metrics()
        self.observation = Observation(self.metrics, self._clock)

    @property
    def shutdown_budget_s(self) -> float:
        return self._config.shutdown_budget_s

    def stop(self) -> None:
        """Ask for a graceful end."""
        self._stop.set()

    def reload(self) -> None:
        """Ask for the configuration to be read again."""
        self._reload.set()

    def drain(self) -> None:
        """Ask for an end with the last call: new ones are refused from now on."""
        self._drain.set()

    async def serve(self) -> None:
        """Start, serve until :meth:`stop`, shut down within the budget.

        Raises what makes starting impossible (BundleError, EngineError, OutboxError, HttpError).
        """
        sys.setswitchinterval(GIL_HANDOVER_S)
        await self._start()
        config = self._config
        asyncio.get_running_loop().set_exception_handler(self._defect)
        try:
            async with asyncio.TaskGroup() as group:
                self._parts = Parts(group, self._before_stop, self._after_stop)
                background = [
                    group.create_task(self._worker_lives(), name="inference-watch"),
                    group.create_task(
                        sample_loop_lag(self.metrics.event_loop_lag_seconds.set), name="loop-lag"
                    ),
                    group.create_task(self._board.run(), name="status-board"),
                    group.create_task(self._drained(), name="drain-watch"),
                ]
                await self._parts.reconcile(self._wanted(config, starting=True))
                logger.info("ready: node %s, sources %d", config.node, len(config.sources))
                await self._until_stopped()
                await self._shut_down()
                for task in background:
                    task.cancel()
        finally:
            # Also after a defect in one of the tasks: threads and files are closed in any case.
            await self._worker.stop(2.0, drain=False)
            await self._desk.close()

    async def _start(self) -> None:
        config = self._config
        self._configure_log(config)
        topics = Topics(config.mqtt.prefix if config.mqtt else "streamguard", config.node)
        self._topics = topics
        self._desk = AlertDesk(config.alerts, topics, self._clock, config.outbox)
        self._worker = InferenceWorker(
            self._first_scorer,
            lambda result: self._monitor.on_result(result),
            config.inference,
            now=self._clock.monotonic,
        )
        await self._desk.start([source.name for source in config.sources])
        try:
            await self._worker.start()
        except BaseException:
            await self._desk.close()
            raise
        self._judging = await asyncio.to_thread(Judging.of, config, self._models)
        self._monitor = Monitor(
            inference=self._worker,
            sink=self._desk,
            clock=self._clock,
            make_voter=self._judging.voter,
            make_context=self._judging.context,
            observer=self.observation,
            policy=Policy.of(config.policy, self._path),
        )
        self._board = StatusBoard(
            topics=topics,
            clock=self._clock,
            desk=self._desk,
            monitor=self._monitor,
            worker=self._worker,
            observation=self.observation,
            judging=self._judging,
        )

    def _first_scorer(self) -> ScorerLike:
        self._models = open_models(pair_names(self._config))
        return make_scorer(self._models, self._config.gate, self._config.inference)

    def _configure_log(self, config: Config) -> None:
        configure_logging(config.log, self._redactor)
        for secret in secrets_in(config):
            with suppress(ValueError):  # whoever needs it will say that it can't be read
                self._redactor.register(secret.read())

    def _defect(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Nobody can catch an exception in a callback: log it, and end as after any defect.

        Not so for the operating system's refusals (too many open files): peers can provoke them.
        """
        loop.default_exception_handler(context)
        error = context.get("exception")
        if error is not None and not isinstance(error, OSError):
            self.failed = True
            self.stop()

    async def _worker_lives(self) -> None:
        """A dead inference thread ends the daemon: better restarted than deaf."""
        await self._worker.wait()
        if not self._stop.is_set():
            raise RuntimeError("the inference thread ended by itself")

    async def _drained(self) -> None:
        """Stop when draining has left no call; what never ends by itself is not waited for."""
        await self._drain.wait()
        logger.info("draining: the daemon ends with the last call")
        self._board.admission.drain()
        endless = {source.name for source in self._config.sources if _is_endless(source)}
        while self._calls_are_up(endless):  # noqa: ASYNC110  # legs have nothing to wait on
            await asyncio.sleep(DRAIN_TICK_S)
        logger.info("drained: no call is left")
        self.stop()

    def _calls_are_up(self, endless: set[str]) -> bool:
        """Sources are asked, too: what one took just now is still on its way to the monitor."""
        heard = {leg.started.source for leg in self._monitor.legs() if leg.ended is None}
        taken = {name for name, one in self._board.sources.items() if one.stats().legs_active}
        # A recording that broke off has no end of its legs to count.
        return bool((heard | taken - self._played) - endless)

    async def _until_stopped(self) -> None:
        while True:
            waits = {
                asyncio.create_task(self._stop.wait(), name="wait-stop"),
                asyncio.create_task(self._reload.wait(), name="wait-reload"),
            }
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waits:
                    task.cancel()
                await asyncio.gather(*waits, return_exceptions=True)
            if self._stop.is_set():
                return
            self._reload.clear()
            await self._re_read()

    def _wanted(self, config: Config, *, starting: bool) -> dict[str, Wanted]:
        """What should run; ``starting``: what cannot be had ends the daemon, later it does not."""
        wanted: dict[str, Wanted] = {}
        if config.http.listen is not None:
            run = partial(self._serve_http, config, required=starting)
            wanted["http"] = Wanted(config.http, run)
        if config.mqtt is not None:
            wanted["mqtt"] = Wanted(config.mqtt, partial(self._publish, config))
        for settings in config.sources:
            supervise = partial(self._supervise, settings, required=starting)
            wanted[f"{SOURCE}{settings.name}"] = Wanted(settings, supervise)
        return wanted

    async def _before_stop(self, name: str, task: asyncio.Task[None]) -> None:
        if name == "mqtt" and self._publisher is not None:
            self._publisher.stop(drain_s=2.0)
            await asyncio.wait([task], timeout=4.0)

    async def _after_stop(self, name: str) -> None:
        if name.startswith(SOURCE):
            source = name.removeprefix(SOURCE)
            await self._monitor.end_source(source, EndReason.SHUTDOWN)
            self._board.forget_source(source)
            self.observation.forget_source(source)

    async def _serve_http(self, config: Config, *, required: bool) -> None:
        """Until cancelled. Not to be had at the start is an error; later, calls matter more."""
        listen = config.http.listen
        assert listen is not None
        try:
            token = _token(config)
            async with HealthServer(
                listen, self.metrics, self._board.readiness, self._board.status, token
            ):
                await asyncio.get_running_loop().create_future()  # until cancelled
        except HttpError as err:
            if required:
                raise
            logger.error("no health server until the configuration is re-read: %s", err)
            self._parts.forget("http")

    async def _publish(self, config: Config) -> None:
        assert config.mqtt is not None
        self._publisher = self._board.publisher = Publisher(
            config.mqtt,
            self._topics,
            self._desk,
            self._clock,
            on_publish_seconds=self.metrics.mqtt_publish_seconds.observe,
            drain=self.drain,
        )
        try:
            await self._publisher.run()
        finally:
            self._publisher = self._board.publisher = None

    async def _supervise(self, settings: SourceSettings, *, required: bool) -> None:
        name = settings.name
        self._desk.watch_source(name)
        source = make_source(settings, self._clock)
        self._board.sources[name] = source
        self._board.admission.admit(source)
        self._played.discard(name)
        live = not isinstance(settings, FileSettings | PcapSettings)

        async def emit(event: SourceEvent) -> None:
            await self._monitor.emit(event, live=live)

        async def died(reason: str, degraded: bool) -> None:
            await emit(SourceDown(name, reason))
            await self._desk.source_lost(name, reason)
            self._board.source_died(name, reason, degraded=degraded)

        async def run() -> None:
            await source.run(emit)

        try:
            if live:
                await Supervisor(name, run, died, self._clock).serve()
            else:
                await run()
        except (AudioFileError, SourceError) as err:
            # Of a file: what is broken now will be broken the next time, so there is no restart.
            logger.error("source %s: %s", name, err)
            await emit(SourceDown(name, str(err)))
        except MissingExtraError as err:
            if required:
                raise
            logger.error("source %s is left out: %s", name, err)
            await died(str(err), True)
            return
        logger.info("source %s has come to its end", name)
        self._board.source_ended(name)
        self._played.add(name)
        if {source.name for source in self._config.sources} <= self._played:
            # Only recordings end by themselves; with the last one there is nothing left to hear.
            self.stop()

    # Reading the configuration again.

    async def _re_read(self) -> None:
        try:
            config = await asyncio.to_thread(load_config, self._path)
            await self._apply(config)
        except ConfigError as err:
            logger.error("configuration not taken over, the old one stays: %s", err)
        except StreamguardError as err:
            logger.error("configuration only partly taken over: %s", err)

    async def _apply(self, config: Config) -> None:
        old = self._config
        fixed = [
            name
            for name in ("node", "outbox", "alerts", "inference", "gate")
            if getattr(config, name) != getattr(old, name)
        ]
        if config.mqtt is not None and config.mqtt.prefix != self._topics.prefix:
            fixed.append("mqtt.prefix")
        if fixed:
            logger.warning("needs a restart to take effect: %s", ", ".join(fixed))
            kept = {name: getattr(old, name) for name in fixed if name != "mqtt.prefix"}
            config = config.model_copy(update=kept)
        self._configure_log(config)
        policy = Policy.of(config.policy, self._path)
        judging = await self._take_models(config)
        self._config = config
        self._monitor.policy = policy
        if judging != self._judging:
            self._judging = self._board.judging = judging
            # In this order: an old voter must not raise again what has just been closed.
            self._monitor.judge_anew(judging.voter, judging.context)
            await self._desk.model_changed("the configuration was re-read")
        await self._parts.reconcile(self._wanted(config, starting=False))
        logger.info("configuration re-read from %s", self._path)

    async def _take_models(self, config: Config) -> Judging:
        """Go on with the models of the configuration as they are now; how they judge."""
        # Opened beside the running ones even where the names are the same, for what is behind a
        # name may be new. Live audio waits for the swap alone, and new scores meet new voters.
        models = await asyncio.to_thread(open_models, pair_names(config))
        judging = await asyncio.to_thread(Judging.of, config, models)
        if judging.runs_as(self._judging) and pair_names(config) == pair_names(self._config):
            models.close()
        else:
            await self._worker.replace_models(lambda: models)
            self._models = models
        return judging

    # The ladder.

    async def _shut_down(self) -> None:
        """Sources, inference, alerts, broker: each rung has its share of the budget."""
        budget_s = self._config.shutdown_budget_s
        logger.info("shutting down, at most %.0f s", budget_s)
        await self._parts.cancel(self._parts.names(SOURCE), 0.2 * budget_s)
        try:
            async with asyncio.timeout(0.3 * budget_s):
                await self._monitor.end_all(EndReason.SHUTDOWN)
        except TimeoutError:
            logger.error("inference did not finish in time; its last windows are lost")
        await self._worker.stop(0.15 * budget_s)
        await self._monitor.abandon()
        try:
            async with asyncio.timeout(0.2 * budget_s):
                await self._desk.shutdown()
        except TimeoutError:
            logger.error("the disk does not answer; open alerts are closed at the next start")
        mqtt = self._parts.task("mqtt")
        if mqtt is not None and self._publisher is not None:
            self._publisher.stop(drain_s=0.2 * budget_s)
            await asyncio.wait([mqtt], timeout=0.3 * budget_s)
        await self._parts.cancel(self._parts.names(), 0.05 * budget_s)


def _is_endless(settings: SourceSettings) -> bool:
    """Whether the only call of a source is one that nobody hangs up."""
    return isinstance(settings, MicSettings) or (
        isinstance(settings, FileSettings) and settings.loop
    )


def _token(config: Config) -> str | None:
    """Of the health server. Raises HttpError where the secret cannot be read."""
    if config.http.token is None:
        return None
    try:
        return config.http.token.read()
    except ValueError as err:
        raise HttpError(str(config.http.listen), f"token: {err}") from err
