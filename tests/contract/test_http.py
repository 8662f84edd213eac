"""HTTP, which users rely on: four paths, loopback by default, any other address needs a token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession
from pydantic import ValidationError

from streamguard.telemetry.http import HealthServer, HttpError, Readiness
from streamguard.telemetry.metrics import Metrics
from streamguard.telemetry.settings import HttpSettings

PATHS = ("/livez", "/readyz", "/metrics", "/status")
READY = Readiness(engine_warm=True, sources_up=1, sources=1, broker="disconnected")
NOT_READY = {
    "cold": Readiness(engine_warm=False, sources_up=1, sources=1, broker="connected"),
    "deaf": Readiness(engine_warm=True, sources_up=0, sources=1, broker="connected"),
}


@asynccontextmanager
async def serving(
    readiness: Readiness = READY, token: str | None = None
) -> AsyncIterator[ClientSession]:
    server = HealthServer("127.0.0.1:0", Metrics(), lambda: readiness, lambda: {"a": 1}, token)
    async with server, ClientSession(f"http://127.0.0.1:{server.port}") as client:
        yield client


async def test_the_four_paths_answer_and_no_others() -> None:
    types = {}
    async with serving() as client:
        for path in PATHS:
            async with client.get(path) as response:
                assert response.status == 200, path
                types[path] = response.content_type
        for path in ("/", "/alerts", "/livez/"):
            async with client.get(path) as response:
                assert response.status == 404, path
    assert types == {
        "/livez": "text/plain",
        "/readyz": "application/json",
        "/metrics": "text/plain",
        "/status": "application/json",
    }


@pytest.mark.parametrize("why", NOT_READY)
async def test_readyz_needs_a_warm_engine_and_a_source_and_livez_neither(why: str) -> None:
    async with serving(NOT_READY[why]) as client:
        async with client.get("/readyz") as response:
            assert response.status == 503
            body = await response.json()
        assert body.keys() == {"ready", "reasons", "sources_up", "sources", "broker"}
        assert body["ready"] is False
        assert len(body["reasons"]) == 1
        async with client.get("/livez") as response:
            assert response.status == 200


async def test_the_broker_is_reported_and_not_required() -> None:
    async with serving() as client, client.get("/readyz") as response:
        assert response.status == 200
        assert (await response.json())["broker"] == "disconnected"


@pytest.mark.parametrize("path", PATHS)
async def test_with_a_token_every_path_answers_401_without_it(path: str) -> None:
    async with serving(token="a-token-for-the-test") as client:
        async with client.get(path) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
        right = {"Authorization": "Bearer a-token-for-the-test"}
        async with client.get(path, headers=right) as response:
            assert response.status == 200


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_token_a_foreign_host_name_gets_421(path: str) -> None:
    async with serving() as client:
        async with client.get(path, headers={"Host": "page.example"}) as response:
            assert response.status == 421
        async with client.get(path, headers={"Host": "localhost"}) as response:
            assert response.status == 200


def test_it_listens_on_loopback_by_default_and_elsewhere_only_with_a_token() -> None:
    assert str(HttpSettings().listen).startswith("127.0.0.1:")
    with pytest.raises(ValidationError, match="token"):
        HttpSettings(listen="0.0.0.0:8099")
    with pytest.raises(HttpError, match="token"):
        HealthServer("0.0.0.0:0", Metrics(), lambda: READY, dict)
