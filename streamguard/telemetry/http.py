"""The health server: ``/livez``, ``/readyz``, ``/metrics``, ``/status``."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from streamguard.errors import StreamguardError
from streamguard.telemetry.log import RepeatLimiter
from streamguard.telemetry.metrics import CONTENT_TYPE
from streamguard.telemetry.settings import is_loopback, split_address

if TYPE_CHECKING:
    from types import TracebackType

    from aiohttp import web
    from aiohttp.typedefs import Handler, Middleware

    from streamguard.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

_HEADERS: Final = {
    "Server": "streamguard",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether audio that arrives now is judged."""

    engine_warm: bool
    sources_up: int
    sources: int
    broker: str
    """``connected``, ``disconnected`` or ``off``: told, not required, since alerts can wait."""
    draining: bool = False
    """Whether new calls are refused until the daemon ends."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why not; empty when ready."""
        reasons = []
        if not self.engine_warm:
            reasons.append("the engine is not warm yet")
        if self.sources_up < 1:
            reasons.append(f"none of {self.sources} sources is up")
        if self.draining:
            reasons.append("draining: no new calls are taken")
        return tuple(reasons)


class HttpError(StreamguardError):
    """The health server cannot listen."""

    def __init__(self, listen: str, reason: str) -> None:
        self.listen = listen
        self.reason = reason
        super().__init__(f"http.listen {listen}: {reason}")


class HealthServer:
    """Serves while the ``async with`` lasts.

    With a token every request needs it. Without one (loopback only, see ``HttpSettings``) the Host
    header must be loopback too, so that no web page can reach it by rebinding its own name.
    """

    def __init__(
        self,
        listen: str,
        metrics: Metrics,
        readiness: Callable[[], Readiness],
        status: Callable[[], Mapping[str, object]],
        token: str | None = None,
    ) -> None:
        self._listen = listen
        self._host, self._port = split_address(listen)
        if token is None and not is_loopback(self._host):
            raise HttpError(listen, "an address that others can reach needs a token")
        self._metrics = metrics
        self._readiness = readiness
        self._status = status
        self._token_digest = _digest(token) if token is not None else None
        self._repeats = RepeatLimiter(_log)
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port in use, also when 0 was asked for."""
        assert self._runner is not None, "not started"
        return int(self._runner.addresses[0][1])

    async def __aenter__(self) -> Self:
        from aiohttp import web

        app = web.Application(middlewares=[self._guard()], client_max_size=1024)
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._scrape),
                web.get("/status", self._report),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as err:
            await runner.cleanup()
            raise HttpError(self._listen, err.strerror or str(err)) from err
        self._runner = runner
        _log.info("health server on %s port %d", self._host, self.port)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _guard(self) -> Middleware:
        from aiohttp import web

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            refusal = self._refusal(request)
            if refusal is not None:
                status, text, reason = refusal
                self._repeats.log(logging.WARNING, reason, "HTTP request refused: %s", reason)
                headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
                response: web.StreamResponse = web.Response(
                    status=status, text=text, headers=headers
                )
            else:
                try:
                    response = await handler(request)
                except web.HTTPException as err:  # 404 and 405 come as exceptions
                    response = web.Response(status=err.status, text=f"{err.reason}\n")
            response.headers.update(_HEADERS)
            return response

        return guard

    def _refusal(self, request: web.Request) -> tuple[int, str, str] | None:
        if self._token_digest is None:
            host = request.host
            name = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
            if is_loopback(name):
                return None
            return 421, "this server answers to loopback names only\n", "foreign Host header"
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        # Digests, so that the comparison takes the same time whatever the length.
        same = hmac.compare_digest(_digest(token.strip()), self._token_digest)
        if scheme.lower() == "bearer" and same:
            return None
        return 401, "a bearer token is needed\n", "missing or wrong token"

    async def _livez(self, request: web.Request) -> web.Response:
        from aiohttp import web

        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        from aiohttp import web

        state = self._readiness()
        body = {
            "ready": not state.reasons,
            "reasons": list(state.reasons),
            "sources_up": state.sources_up,
            "sources": state.sources,
            "broker": state.broker,
        }
        return web.json_response(body, status=503 if state.reasons else 200)

    async def _scrape(self, request: web.Request) -> web.Response:
        from aiohttp import web

        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def _report(self, request: web.Request) -> web.Response:
        from aiohttp import web

        return web.json_response(self._status())


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
