"""TLS, passwords, access lists, protocol versions: how a connection comes about, or does not."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from streamguard.alerts.mqtt import _answered
from streamguard.alerts.publisher import full_jitter
from tests.alerts.broker import (
    free_port,
    make_certificates,
)
from tests.alerts.builders import TOPICS, context, desk, verdict
from tests.alerts.fake_broker import black_hole, fake_broker
from tests.alerts.harness import (
    availability,
    call,
    publishing,
    reading,
    running,
    settings,
    to_thread,
    until,
)

pytestmark = pytest.mark.peer


async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    c = await to_thread(make_certificates, tmp_path / "certificates")
    options = ("--cafile", c.ca, "--cert", c.client_cert, "--key", c.client_key)
    tls = {"ca": c.ca, "cert": c.client_cert, "key": c.client_key}
    alerts = desk(tmp_path)
    await alerts.start()
    async with (
        running(tmp_path, certificates=c) as broker,
        reading(broker.port, options=tuple(map(str, options))) as reader,
        publishing(alerts, settings(broker.port, host="localhost", tls=tls)),
    ):
        await call(alerts, "leg1")
        assert len(await to_thread(reader.alerts, 3)) == 3


@pytest.mark.parametrize("fault", ["no client certificate", "unknown authority", "no such file"])
async def test_tls_that_does_not_fit_is_a_state_and_a_retry(tmp_path: Path, fault: str) -> None:
    certificates = await to_thread(make_certificates, tmp_path / "certificates")
    tls, reason = {
        "no client certificate": ({"ca": certificates.ca}, ""),
        "unknown authority": ({}, "CERTIFICATE_VERIFY_FAILED"),
        "no such file": ({"ca": tmp_path / "missing.pem"}, "missing.pem is not a file"),
    }[fault]
    async with running(tmp_path, certificates=certificates) as broker:
        mqtt = settings(broker.port, host="localhost", tls=tls)
        async with publishing(desk(None), mqtt) as publisher:
            await until(lambda: publisher.state.attempts >= 2)
            assert not publisher.state.connected
            assert reason in publisher.state.reason


async def test_a_wrong_password_is_a_clear_state_and_is_retried_with_backoff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", "wrong-hunter2")
    uppers: list[float] = []

    def jitter(upper: float) -> float:
        uppers.append(upper)
        return 0.01

    alerts = desk(tmp_path)
    await alerts.start()
    async with running(tmp_path, password="right") as broker:
        mqtt = settings(
            broker.port,
            username="streamguard",
            password={"env": "BROKER_PASSWORD"},
            backoff_first_s=1.0,
            backoff_cap_s=5.0,
        )
        with caplog.at_level(logging.DEBUG):
            async with publishing(alerts, mqtt, jitter) as publisher:
                await call(alerts, "leg1")
                await until(lambda: publisher.state.attempts >= 5)
                assert publisher.state.reason == "Not authorized"
                # The secret is read anew for each attempt: a corrected one is enough.
                monkeypatch.setenv("BROKER_PASSWORD", "right")
                await until(lambda: publisher.stats().published.total() == 3)
    assert uppers[:5] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert "hunter2" not in caplog.text
    told = [r for r in caplog.records if r.levelno >= logging.INFO]
    refusals = [r for r in told if "Not authorized" in r.getMessage()]
    assert len(refusals) == 1, "one line per change of state, not per attempt"


async def test_a_secret_that_cannot_be_read_is_a_state_not_a_crash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("BROKER_PASSWORD", raising=False)
    mqtt = settings(free_port(), username="u", password={"env": "BROKER_PASSWORD"})
    async with publishing(desk(None), mqtt) as publisher:
        await until(lambda: publisher.state.attempts >= 1)
        assert "BROKER_PASSWORD is not set" in publisher.state.reason


@pytest.mark.parametrize("manner", ["refuse", "close"])
async def test_a_broker_without_mqtt_5_is_spoken_to_in_3_1_1(tmp_path: Path, manner: Any) -> None:
    alerts = desk(tmp_path)
    await alerts.start()
    async with (
        fake_broker(manner) as broker,
        publishing(alerts, settings(broker.port)) as publisher,
    ):
        await call(alerts, "leg1")
        await until(lambda: publisher.stats().published.total() == 3)
        assert publisher.state.reason == "MQTT 3.1.1"
        assert broker.levels == [5, 4]
        told = [json.loads(p)["id"] for t, p in broker.published if t.endswith("/alert")]
    assert [one.rsplit("/")[-1] for one in told] == ["1", "2", "3"]


async def test_where_mqtt_5_is_asked_for_there_is_no_fallback() -> None:
    async with fake_broker() as broker:
        async with publishing(desk(None), settings(broker.port, protocol="5")) as publisher:
            await until(lambda: publisher.state.attempts >= 2)
            assert "protocol version" in publisher.state.reason
        assert set(broker.levels) == {5}


async def test_a_peer_that_says_nothing_is_given_up_after_the_timeout() -> None:
    async with fake_broker("silent") as broker:
        mqtt = settings(broker.port, timeout_s=0.2)
        async with publishing(desk(None), mqtt) as publisher:
            await until(lambda: publisher.state.attempts >= 2)
        assert len(broker.levels) >= 2


async def test_stopping_does_not_wait_for_a_connection_in_the_making() -> None:
    async with fake_broker("silent") as broker:
        async with publishing(desk(None), settings(broker.port, timeout_s=60)) as publisher:
            await until(lambda: broker.levels != [])
            async with asyncio.timeout(5):
                publisher.stop()
                await until(lambda: publisher.state.reason == "stopped")


def test_a_connection_that_hangs_does_not_hold_the_end_of_the_process() -> None:
    script = """
        import asyncio, sys
        from tests.alerts.builders import desk
        from tests.alerts.harness import publishing, settings

        async def main():
            mqtt = settings(int(sys.argv[1]), timeout_s=60)
            async with publishing(desk(None), mqtt):
                await asyncio.sleep(0.3)

        asyncio.run(main())
    """
    with black_hole() as port:
        ended = subprocess.run(
            (sys.executable, "-c", textwrap.dedent(script), str(port)),
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=15,
        )
    assert ended.returncode == 0


async def test_alerts_that_may_not_be_published_wait_and_the_state_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MQTT 5 says that the access list is wrong; taking the refusal for success loses alerts."""
    monkeypatch.setenv("BROKER_PASSWORD", "right")
    acl = f"user streamguard\ntopic write {TOPICS.availability}\ntopic read #\n"
    alerts = desk(tmp_path)
    await alerts.start(sources=["trunk"])
    async with (
        running(tmp_path, password="right", acl=acl) as broker,
        reading(broker.port, options=("-u", "streamguard", "-P", "right")) as reader,
    ):
        password = {"env": "BROKER_PASSWORD"}
        mqtt = settings(broker.port, username="streamguard", password=password)
        async with publishing(alerts, mqtt) as publisher:
            await alerts.verdict(context(), verdict())
            await until(lambda: publisher.state.attempts >= 2)
            assert "Not authorized" in publisher.state.reason
            assert alerts.stats().outbox.depth == 1
            # Left without DISCONNECT: nobody is told that all is well while we wait.
            await to_thread(
                reader.wait_for, lambda got: availability(got)[:2] == ["online", "offline"]
            )


def test_waits_are_spread_over_the_whole_interval() -> None:
    waits = [full_jitter(10.0) for _ in range(1000)]
    assert 0 <= min(waits) < 1
    assert 9 < max(waits) <= 10


async def test_a_cancellation_that_comes_together_with_the_answer_is_not_lost() -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def ask() -> int:
        return await asyncio.wait_for(answer, 5)

    task = asyncio.create_task(_answered("asking", ask()))
    await asyncio.sleep(0)
    answer.set_result(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
