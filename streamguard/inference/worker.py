"""The inference thread behind an asyncio face: bounded, fair across legs, in micro-batches."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable

from streamguard.audio.frames import RawBlock
from streamguard.errors import EngineError, StreamguardError
from streamguard.inference.handover import (
    Delivery,
    ScorerLike,
    Shared,
    Swap,
    WorkerStats,
    rejected,
    settle,
)
from streamguard.inference.lanes import Batch, Lanes
from streamguard.inference.leg import HopKind
from streamguard.inference.scorer import HopResult, Models
from streamguard.inference.settings import InferenceSettings

logger = logging.getLogger(__name__)

MAX_UNDELIVERED = 256
"""Results that may wait for the event loop; then the thread waits, and the lanes fill."""
SHED_AFTER_S = 0.05
"""A hop that has waited so long is late; a tenth of the time in which the next one is heard."""
ABANDON_SHARE = 0.25
"""Of a stop budget, kept for what follows when draining takes too long."""


class InferenceWorker:
    """One named thread that owns the scorer and its engines.

    ``make_scorer`` runs in the thread. ``on_result`` is awaited on the event loop, one result after
    another, in order per leg; while it is behind, the thread waits. An exception in either ends the
    worker: :meth:`wait` raises it, and nobody waits for what will not come.
    """

    def __init__(
        self,
        make_scorer: Callable[[], ScorerLike],
        on_result: Callable[[HopResult], Awaitable[None]],
        settings: InferenceSettings,
        *,
        name: str = "inference",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``now`` is the clock by which blocks say when they were received."""
        self._make_scorer = make_scorer
        self._on_result = on_result
        self._settings = settings
        self._name = name
        self._now = now
        self._changed = threading.Condition()
        self._shared = Shared(Lanes(settings.queue_hops_per_leg, settings.queue_hops_total))
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._inbox: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._waiting = 0
        """Sources of recordings that wait for room."""
        self._over = asyncio.Event()
        self._closing: dict[str, asyncio.Future[None]] = {}
        self._failure: BaseException | None = None

    async def start(self) -> None:
        """Start the thread; return when it has loaded its models and is warm.

        Raises what loading raised (BundleError, EngineError).
        """
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._thread_done: asyncio.Future[None] = self._loop.create_future()
        self._delivery = asyncio.create_task(self._deliver(), name=f"{self._name}-delivery")
        self._delivery.add_done_callback(self._delivery_ended)
        self._thread.start()
        try:
            await self._ready
        except BaseException:
            # Failed or cancelled, a start leaves nothing behind.
            await self.stop(1.0, drain=False)
            raise

    async def wait(self) -> None:
        """Return when the worker was stopped; raise what ended it otherwise."""
        await self._over.wait()
        if self._failure is not None:
            raise self._failure

    async def submit(self, block: RawBlock) -> None:
        """Queue a block of a recording; wait while there is no room."""
        while True:
            self._check(block.leg)
            with self._changed:
                if self._shared.stopping or self._shared.lanes.has_room(block.leg):
                    self._put(block, live=False)
                    return
                # Under the lock: the thread wakes the loop only where it sees somebody wait.
                self._room.clear()
                self._waiting += 1
            try:
                await self._room.wait()
            finally:
                self._waiting -= 1

    def submit_nowait(self, block: RawBlock) -> None:
        """Queue a block of a live leg; where there is no room, old blocks are dropped."""
        self._check(block.leg)
        with self._changed:
            self._put(block, live=True)

    async def close_leg(self, leg: str) -> None:
        """Return when every result of the leg has been delivered, and it is forgotten."""
        if leg not in self._closing:
            with self._changed:
                if self._shared.stopping or not self._shared.lanes.close(leg):
                    return
                self._changed.notify()
            self._closing[leg] = self._loop.create_future()
        await asyncio.shield(self._closing[leg])

    async def replace_models(self, make_models: Callable[[], Models]) -> None:
        """Load other models in the thread and go on with them; the old ones stay if that fails.

        Results delivered after the return are of the new models. Raises what loading raised.
        """
        with self._changed:
            if self._shared.swap is not None or self._shared.stopping:
                raise EngineError(self._name, "it is stopping, or replacing models already")
            swap = self._shared.swap = Swap(make_models, self._loop.create_future())
            self._changed.notify()
        await asyncio.shield(swap.done)

    async def stop(self, budget_s: float, *, drain: bool = True) -> bool:
        """Stop within the budget; return whether the thread has ended.

        Drains first; what is not scored when most of the budget is gone is dropped as ``shutdown``.
        """
        deadline = self._loop.time() + budget_s
        self._set_stopping(abandoning=not drain)
        if drain:
            await self._thread_ends_by(deadline - ABANDON_SHARE * budget_s)
            self._set_stopping(abandoning=True)
        ended = await self._thread_ends_by(deadline)
        if ended:
            await asyncio.to_thread(self._thread.join)
            await asyncio.wait([self._delivery], timeout=max(0.0, deadline - self._loop.time()))
        else:
            logger.error("the thread %s did not end in %.1f s", self._name, budget_s)
        if not self._delivery.done():
            self._delivery.cancel()
            await asyncio.wait([self._delivery])
        with self._changed:
            self._shared.lanes.abandon("shutdown")
        self._release(EngineError(self._name, "it was stopped"))
        return ended

    def stats(self) -> WorkerStats:
        with self._changed:
            shared = self._shared
            return WorkerStats(
                submitted=shared.lanes.submitted,
                processed=shared.processed,
                dropped=dict(shared.lanes.dropped),
                depth=shared.lanes.depth,
                in_flight=shared.in_flight,
                undelivered=shared.undelivered,
                batches=shared.batches,
                backlogs=shared.backlogs,
                late=shared.late,
                batch_sizes=dict(shared.batch_sizes),
                busy_s=shared.busy_s,
                busy_since=shared.busy_since,
                scorer=shared.scorer_counts,
                attribution=shared.attribution_counts,
            )

    # On the event loop.

    def _check(self, leg: str) -> None:
        if self._failure is not None:
            raise EngineError(self._name, "the inference thread has died") from self._failure
        if leg in self._closing:
            raise ValueError(f"leg {leg} is being closed: it takes no more audio")

    def _put(self, block: RawBlock, *, live: bool) -> None:
        lanes = self._shared.lanes
        if self._shared.stopping:
            lanes.refuse("shutdown")
        else:
            lanes.put(block, live=live)
            self._changed.notify()

    def _set_stopping(self, *, abandoning: bool) -> None:
        with self._changed:
            self._shared.stopping = True
            self._shared.abandoning = self._shared.abandoning or abandoning
            self._changed.notify()
        self._room.set()

    async def _thread_ends_by(self, deadline: float) -> bool:
        await asyncio.wait([self._thread_done], timeout=max(0.0, deadline - self._loop.time()))
        return self._thread_done.done()

    async def _deliver(self) -> None:
        while self._inbox or not self._thread_done.done():
            if not self._inbox:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            delivery = self._inbox.popleft()
            for result in delivery.results:
                await self._on_result(result)
                with self._changed:
                    self._shared.undelivered -= 1
                    self._changed.notify()
            for leg in delivery.ended:
                if (closing := self._closing.pop(leg, None)) is not None:
                    settle(closing)
            if delivery.swapped is not None:
                settle(delivery.swapped, delivery.error)

    def _delivery_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _receive(self, delivery: Delivery) -> None:
        self._inbox.append(delivery)
        self._arrived.set()

    def _thread_ended(self, error: BaseException | None) -> None:
        self._thread_done.set_result(None)
        self._arrived.set()
        if error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            if self._ready.done():  # a start that fails raises instead
                logger.error("inference has died", exc_info=error)
        self._set_stopping(abandoning=True)
        with self._changed:
            self._shared.lanes.abandon("failed")
        self._release(error)

    def _release(self, error: BaseException) -> None:
        """Nothing more comes: whoever waits for it must not wait for ever."""
        settle(self._ready, error)
        with self._changed:
            swap, self._shared.swap = self._shared.swap, None
        if swap is not None:
            settle(swap.done, error)
        for closing in self._closing.values():
            settle(closing)
        self._closing.clear()
        self._room.set()
        self._over.set()

    # In the thread.

    def _main(self) -> None:
        try:
            self._work()
        except BaseException as err:  # it is not swallowed: the owner of the worker gets it
            with self._changed:
                self._shared.lanes.dropped["failed"] += self._shared.in_flight
                self._shared.in_flight = 0
                self._shared.busy_since = None
            self._post(self._thread_ended, err)
        else:
            self._post(self._thread_ended, None)

    def _work(self) -> None:
        scorer = self._make_scorer()
        try:
            scorer.warm_up()
            self._post(settle, self._ready)
            while (job := self._next_job()) is not None:
                if isinstance(job, Swap):
                    self._replace(scorer, job)
                else:
                    self._score(scorer, job)
        finally:
            scorer.close()

    def _next_job(self) -> Batch | Swap | None:
        """Wait for something to do; None is the end."""
        shared, lanes, settings = self._shared, self._shared.lanes, self._settings
        with self._changed:
            while True:
                if shared.abandoning or (shared.stopping and not lanes.ready):
                    return None
                if shared.swap is not None and not shared.swapping:
                    shared.swapping = True
                    return shared.swap
                if lanes.ready and shared.undelivered < MAX_UNDELIVERED:
                    break
                self._changed.wait()
            deadline = time.monotonic() + settings.max_wait_ms / 1000
            # No longer than others may still come (every open leg has something, or we stop), and
            # not while somebody waits for the end of a leg.
            while (
                not shared.stopping
                and not lanes.closing
                and lanes.depth < settings.max_batch
                and lanes.ready < lanes.legs
                and (left := deadline - time.monotonic()) > 0
            ):
                self._changed.wait(left)
            batch = lanes.take(settings.max_batch)
            shared.in_flight = batch.taken
            shared.busy_since = time.monotonic()
            return batch

    def _score(self, scorer: ScorerLike, batch: Batch) -> None:
        if self._waiting:
            self._post(self._room.set)
        shed = self._is_behind(batch)
        started = time.perf_counter()
        results = scorer.process(batch.blocks, shed_attribution=shed)
        results, late = self._in_time(results, batch.live)
        for leg in batch.closed:
            results += scorer.close_leg(leg, shed_attribution=shed)
        busy_s = time.perf_counter() - started
        with self._changed:
            shared = self._shared
            shared.in_flight = 0
            shared.busy_since = None
            shared.processed += batch.taken
            shared.undelivered += len(results)
            shared.busy_s += busy_s
            shared.backlogs += shed
            shared.late += late
            if batch.blocks:
                shared.batches += 1
                shared.batch_sizes[len(batch.blocks)] += 1
            shared.scorer_counts = dict(scorer.counts)
            shared.attribution_counts = dict(scorer.attribution_counts)
        self._post(self._receive, Delivery(results=tuple(results), ended=batch.closed))

    def _is_behind(self, batch: Batch) -> bool:
        """Whether attribution gives way: a whole batch more waits behind this one, which is late.
        Many hops at once are no overload: calls begin at any time, and that is over unnoticed."""
        enough = batch.live_waiting >= self._settings.max_batch
        return enough and self._now() - batch.oldest > SHED_AFTER_S

    def _in_time(
        self, results: list[HopResult], live: frozenset[str]
    ) -> tuple[list[HopResult], int]:
        """Windows that were scored too late are no evidence any more: a verdict on what was said
        long ago would pass for one on now. Later windows still hear their hops. The rest of a short
        segment is never late: it waited for the next one to begin, a hold long, and not for us."""
        oldest = self._now() - self._settings.deadline_ms / 1000
        late = [
            result.leg in live
            and result.kind is not HopKind.REST
            and result.score is not None
            and result.score.rejected is None
            and result.received_at < oldest
            for result in results
        ]
        if not any(late):
            return results, 0
        used = [
            rejected(result) if is_late else result
            for result, is_late in zip(results, late, strict=True)
        ]
        return used, sum(late)

    def _replace(self, scorer: ScorerLike, swap: Swap) -> None:
        error: StreamguardError | None = None
        try:
            models = swap.make_models()
            try:
                models.warm_up()
                scorer.replace_models(models)
            except StreamguardError:
                models.close()
                raise
        except StreamguardError as err:
            error = err
        with self._changed:
            self._shared.swap = None
            self._shared.swapping = False
        self._post(self._receive, Delivery(swapped=swap.done, error=error))

    def _post(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed: its owner gave up on this thread
            logger.warning("the thread %s outlived its event loop", self._name)
