from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession

from streamguard.telemetry.http import HealthServer, HttpError, Readiness
from streamguard.telemetry.metrics import Metrics

READY = Readiness(engine_warm=True, sources_up=1, sources=2, broker="disconnected")


@asynccontextmanager
async def serving(
    readiness: Readiness = READY,
    status: Mapping[str, object] | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[ClientSession, Metrics]]:
    metrics = Metrics()
    server = HealthServer("127.0.0.1:0", metrics, lambda: readiness, lambda: status or {}, token)
    async with (
        server,
        ClientSession(f"http://127.0.0.1:{server.port}", headers=headers) as client,
    ):
        yield client, metrics


async def test_livez_answers_while_the_loop_turns() -> None:
    async with serving() as (client, _), client.get("/livez") as response:
        assert response.status == 200
        assert await response.text() == "ok\n"
        assert response.headers["Server"] == "streamguard"


async def test_readyz_needs_a_warm_engine_and_a_source_but_no_broker() -> None:
    async with serving() as (client, _), client.get("/readyz") as response:
        assert response.status == 200
        assert await response.json() == {
            "ready": True,
            "reasons": [],
            "sources_up": 1,
            "sources": 2,
            "broker": "disconnected",
        }


async def test_readyz_says_why_it_is_not() -> None:
    cold = Readiness(engine_warm=False, sources_up=0, sources=2, broker="connected")
    async with serving(cold) as (client, _), client.get("/readyz") as response:
        assert response.status == 503
        body = await response.json()
        assert body["reasons"] == ["the engine is not warm yet", "none of 2 sources is up"]


async def test_metrics_come_in_the_text_format() -> None:
    async with serving() as (client, metrics):
        metrics.mqtt_connected.set(1)
        async with client.get("/metrics") as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert "streamguard_mqtt_connected 1.0" in await response.text()


async def test_status_is_what_the_callback_says() -> None:
    async with serving(status={"node": "a"}) as (client, _), client.get("/status") as response:
        assert await response.json() == {"node": "a"}


async def test_other_paths_and_methods_are_refused() -> None:
    async with serving() as (client, _):
        async with client.get("/../etc/passwd") as response:
            assert response.status == 404
        async with client.post("/status", data=b"x") as response:
            assert response.status == 405


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/status"])
async def test_with_a_token_every_path_needs_it(path: str) -> None:
    async with serving(token="right-token") as (client, _):
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic right-token"},
            {"Authorization": "Bearer"},
        ):
            async with client.get(path, headers=headers) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"] == "Bearer"
        async with client.get(path, headers={"Authorization": "bearer right-token"}) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example:8099", 421), ("localhost:8099", 200), ("[::1]:8099", 200), ("", 421)],
)
async def test_a_rebound_host_name_is_refused(host: str, status: int) -> None:
    async with (
        serving(headers={"Host": host}) as (client, _),
        client.get("/status") as response,
    ):
        assert response.status == status


async def test_random_bytes_do_not_end_the_server() -> None:
    metrics = Metrics()
    async with HealthServer("127.0.0.1:0", metrics, lambda: READY, dict) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"\x16\x03\x01\x00" + bytes(range(256)) + b"\r\n\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        async with ClientSession() as client:
            async with client.get(f"http://127.0.0.1:{server.port}/livez") as response:
                assert response.status == 200


async def test_a_port_in_use_is_an_error_that_names_the_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(HttpError, match=f"http.listen {listen}"):
            async with HealthServer(listen, Metrics(), lambda: READY, dict):
                pass


def test_an_open_address_without_a_token_is_refused_by_the_server_too() -> None:
    with pytest.raises(HttpError, match="token"):
        HealthServer("0.0.0.0:0", Metrics(), lambda: READY, dict)
