"""The SIPREC source on real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from streamguard.errors import SourceError
from streamguard.events import (
    Audio,
    CallEnded,
    CallStarted,
    EndReason,
    LegEnded,
    LegRole,
    LegStarted,
    SourceUp,
)
from streamguard.process import loop_factory
from streamguard.protocols.sip_message import SipRequest
from streamguard.sources import sip_connections
from streamguard.sources.base import Refusal
from streamguard.sources.siprec import SiprecSource
from tests.protocols.siprec_rig import answer_of
from tests.sources.collect import eventually, running, samples_of
from tests.sources.sip_peer import free_sip_port, make_source, mouth, peer, speak


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
async def test_a_call_is_heard_from_its_invite_to_its_bye(transport: str) -> None:
    port = free_sip_port()
    source = make_source(port)
    with mouth() as caller, mouth() as callee:
        async with running(source) as collector, peer(port, transport) as client:
            ok = await client.invite((caller.getsockname()[1], callee.getsockname()[1]))
            assert ok.status == 200
            ports = [line.port for line in answer_of(ok).media]
            for sock, target in ((caller, ports[0]), (callee, ports[1])):
                speak(sock, target, 0, 10)
            await collector.until(lambda: len(collector.of(Audio)) == 20)
            assert source.stats().legs_active == 2
            assert (await client.bye(ok)).status == 200
            await collector.until(lambda: bool(collector.of(CallEnded)))
    kinds = [type(event) for event in collector.events]
    assert kinds[:2] == [SourceUp, CallStarted]
    assert kinds[-1] is CallEnded
    assert [leg.role for leg in collector.legs()] == [LegRole.CALLER, LegRole.CALLEE]
    for leg in collector.legs():
        assert len(samples_of(collector.events, leg.leg)) == 1600
    stats = source.stats()
    assert (stats.dropped, stats.legs_active, stats.legs_started) == ({}, 0, 2)
    assert stats.last_audio_at is not None


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_a_call_is_set_up_on_the_loop_that_the_daemon_runs_on(
    transport: str, certificates: Path
) -> None:
    async def call() -> None:
        port = free_sip_port()
        tls = {"cert": certificates / "server.pem", "key": certificates / "server.key"}
        source = make_source(port, transport, tls=tls)
        context = client_context(certificates) if transport == "tls" else None
        async with running(source) as collector, peer(port, transport.upper(), context) as client:
            ok = await client.invite((20_000, 20_002))
            assert (await client.bye(ok)).status == 200
            await collector.until(lambda: bool(collector.of(CallEnded)))

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(call())


async def test_only_the_signalled_address_is_heard_and_its_port_before_others() -> None:
    port = free_sip_port()
    source = make_source(port)
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stranger.bind(("127.0.0.2", 0))
    with mouth() as caller, mouth() as callee, mouth() as other, stranger:
        async with running(source) as collector, peer(port) as client:
            ok = await client.invite((caller.getsockname()[1], callee.getsockname()[1]))
            target = answer_of(ok).media[0].port
            speak(stranger, target, 0, 5)
            speak(caller, target, 0, 5)
            speak(other, target, 5, 5)
            await eventually(lambda: source.stats().dropped.get("locked_out") == 10)
            await collector.until(lambda: len(collector.of(Audio)) == 5)


async def test_a_call_that_falls_silent_is_closed_and_the_peer_hears_of_it() -> None:
    port = free_sip_port()
    source = make_source(port, inactivity_s=0.3)
    async with running(source) as collector, peer(port) as client:
        await client.invite((20_000, 20_002))
        await collector.until(lambda: bool(collector.of(CallEnded)))
        bye = await client.read()
        assert isinstance(bye, SipRequest)
        assert bye.method == "BYE"
        client.answer(bye)
    ends = [event for event in collector.events if isinstance(event, LegEnded | CallEnded)]
    assert {event.reason for event in ends} == {EndReason.INACTIVITY}
    assert len(ends) == 3


async def test_a_source_that_stops_says_bye_and_leaves_the_ends_to_its_owner() -> None:
    port = free_sip_port()
    async with peer(port) as client:
        async with running(make_source(port)) as collector:
            await client.invite((20_000, 20_002))
        bye = await client.read()
    assert isinstance(bye, SipRequest)
    assert bye.method == "BYE"
    assert not collector.of(LegEnded, CallEnded)


async def test_a_call_outlives_its_connection_and_ends_over_another() -> None:
    port = free_sip_port()
    source = make_source(port, "tcp")
    async with running(source) as collector:
        async with peer(port, "TCP") as first:
            ok = await first.invite((20_000, 20_002))
        async with peer(port, "TCP") as second:
            assert (await second.bye(ok)).status == 200
            await collector.until(lambda: bool(collector.of(CallEnded)))
    assert source.stats().dropped == {}


async def test_a_call_ends_with_its_connection_where_that_is_the_rule() -> None:
    port = free_sip_port()
    async with running(make_source(port, "tcp", end_on_disconnect=True)) as collector:
        async with peer(port, "TCP") as client:
            await client.invite((20_000, 20_002))
        await collector.until(lambda: bool(collector.of(CallEnded)))
    ends = [event for event in collector.events if isinstance(event, LegEnded | CallEnded)]
    assert {event.reason for event in ends} == {EndReason.SOURCE_LOST}


async def test_a_source_runs_again_on_the_same_ports() -> None:
    port = free_sip_port()
    source = make_source(port)
    for _ in range(2):
        async with running(source), peer(port, "TCP") as client:
            assert (await client.invite((20_000, 20_002))).status == 200
    assert source.stats().legs_started == 4
    assert source.stats().legs_active == 0


async def test_full_or_draining_it_answers_503_and_running_calls_go_on() -> None:
    port = free_sip_port()
    source = make_source(port, max_calls=1, retry_after_s=3)
    async with running(source) as collector, peer(port, "TCP") as client:
        ok = await client.invite((20_000, 20_002), "one")
        busy = await client.invite((20_004, 20_006), "two")
        assert (busy.status, busy.headers.get("retry-after")) == (503, "3")
        source.refuse_calls(Refusal.DRAINING)
        assert (await client.bye(ok, "one")).status == 200
        await collector.until(lambda: bool(collector.of(CallEnded)))
        assert (await client.invite((20_004, 20_006), "three")).status == 503
        source.refuse_calls(None)
        assert (await client.invite((20_004, 20_006), "four")).status == 200
    assert {k: v for k, v in source.stats().dropped.items() if k in ("busy", "draining")} == {
        "busy": 1,
        "draining": 1,
    }


async def test_what_is_refused_from_the_start_stays_refused_when_it_runs() -> None:
    port = free_sip_port()
    source = make_source(port)
    source.refuse_calls(Refusal.OVERLOAD)
    async with running(source), peer(port) as client:
        assert (await client.invite((20_000, 20_002))).status == 503
    assert source.stats().dropped == {"overload": 1}


async def test_a_message_of_many_datagrams_comes_in_over_udp() -> None:
    port = free_sip_port()
    async with running(make_source(port)), peer(port) as client:
        ok = await client.invite((20_000, 20_002), extra=f"X-Long: {'x' * 9_000}\n")
        assert ok.status == 200


async def test_a_dribbled_message_is_one_message() -> None:
    port = free_sip_port()
    async with running(make_source(port)), peer(port, "TCP") as client:
        for byte in client.text("OPTIONS"):
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.final()).status == 200


async def test_a_ping_is_answered_by_a_pong() -> None:
    port = free_sip_port()
    async with running(make_source(port)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\r\n\r\n")
        async with asyncio.timeout(5):
            assert await reader.readexactly(2) == b"\r\n"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("transport", ["TCP", "TLS"])
async def test_a_peer_that_asks_too_much_is_read_slowly_and_answered(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    certificates: Path,
    transport: str,
) -> None:
    monkeypatch.setattr(sip_connections, "MESSAGES_AHEAD_S", 0.02)
    port = free_sip_port()
    tls = transport == "TLS"
    source = tls_source(port, certificates) if tls else make_source(port, "tcp")
    context = client_context(certificates) if tls else None
    async with running(source), peer(port, transport, context) as client:
        for _ in range(2):
            client.send(b"".join(client.text("OPTIONS") for _ in range(30)))
            for _ in range(30):
                assert (await client.final()).status == 200
    assert "is read slowly" in caplog.text


async def test_garbage_closes_its_connection_and_no_other() -> None:
    port = free_sip_port()
    source = make_source(port)
    async with running(source), peer(port, "TCP") as bad, peer(port, "TCP") as good:
        bad.send(b"GET / HTTP/1.1\r\n\r\n")
        await bad.closed()
        good.send(good.text("OPTIONS"))
        assert (await good.final()).status == 200
    assert source.stats().dropped == {"sip_version": 1}


async def test_garbage_over_udp_is_counted() -> None:
    port = free_sip_port()
    source = make_source(port)
    async with running(source), peer(port) as client:
        client.send(b"\x00\x01garbage")
        client.send(b"\r\n")
        client.send(client.text("OPTIONS"))
        assert (await client.final()).status == 200
    assert source.stats().dropped == {"sip_no_end": 1}


async def test_half_a_message_does_not_hold_its_place_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamguard.sources.sip_connections.MESSAGE_S", 0.2)
    port = free_sip_port()
    source = make_source(port)
    async with running(source), peer(port, "TCP") as silent, peer(port, "TCP") as half:
        half.send(b"OPTIONS sip:x SIP/2.0\r\nVia: ")
        await silent.closed()
        await half.closed()
    assert source.stats().dropped == {"connection_half_open": 2}


async def test_an_idle_connection_is_closed_unless_it_has_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamguard.sources.sip_connections.IDLE_S", 0.3)
    port = free_sip_port()
    source = make_source(port)
    async with running(source), peer(port, "TCP") as idle, peer(port, "TCP") as busy:
        ok = await busy.invite((20_000, 20_002))
        idle.send(idle.text("OPTIONS", call_id="probe"))
        assert (await idle.final()).status == 200
        await idle.closed()
        assert (await busy.bye(ok)).status == 200
    assert source.stats().dropped == {"connection_idle": 1}


async def test_connections_of_one_host_are_limited() -> None:
    port = free_sip_port()
    source = make_source(port, max_connections_per_host=2)
    async with running(source):
        async with peer(port, "TCP") as first, peer(port, "TCP"), peer(port, "TCP") as third:
            await third.closed()
            first.send(first.text("OPTIONS"))
            assert (await first.final()).status == 200
        await asyncio.sleep(0.05)
        async with peer(port, "TCP") as again:
            again.send(again.text("OPTIONS"))
            assert (await again.final()).status == 200
    assert source.stats().dropped == {"connections": 1}


async def test_whoever_is_not_allowed_gets_no_answer() -> None:
    port = free_sip_port()
    source = make_source(port, allow=["127.0.0.9/32"])
    async with running(source), peer(port) as over_udp:
        over_udp.send(over_udp.text("OPTIONS"))
        await eventually(lambda: source.stats().dropped.get("not_allowed") == 1)
        async with peer(port, "TCP") as over_tcp:
            await over_tcp.closed()
        assert over_udp.reader.empty()
    assert source.stats().dropped == {"not_allowed": 2}


async def test_a_taken_media_port_is_passed_over() -> None:
    port = free_sip_port()
    source = make_source(port, media_ports=3)
    taken = source._settings.media_ports[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", taken))
        async with running(source), peer(port) as client:
            ok = await client.invite((20_000, 20_002))
            assert ok.status == 200
            assert taken not in [line.port for line in answer_of(ok).media]


async def test_a_port_that_is_taken_is_a_source_error() -> None:
    port = free_sip_port()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", port))
        sock.listen()
        with pytest.raises(SourceError, match=f"cannot listen on 127.0.0.1 port {port}"):
            async with running(make_source(port)):
                pass


# TLS.


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server and a client, made by openssl."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, cwd=folder, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test")
    for name in ("server", "client"):
        openssl(
            "req", "-x509", *curve, "-CA", "ca.pem", "-CAkey", "ca.key",
            "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}",
            "-addext", "subjectAltName=IP:127.0.0.1",
        )  # fmt: skip
    openssl("pkcs8", "-topk8", "-in", "server.key", "-out", "locked.key", "-passout", "pass:x")
    return folder


def client_context(certificates: Path, *, name: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    if name is not None:
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    return context


def tls_source(port: int, certificates: Path, **tls: object) -> SiprecSource:
    files = {"cert": certificates / "server.pem", "key": certificates / "server.key"}
    return make_source(port, "tls", tls={**files, **tls})


async def test_a_call_over_tls(certificates: Path) -> None:
    port = free_sip_port()
    source = tls_source(port, certificates)
    async with running(source) as collector:
        async with peer(port, "TLS", client_context(certificates)) as client:
            ok = await client.invite((20_000, 20_002))
            assert ";transport=tls" in (ok.headers.get("contact") or "")
            assert (await client.bye(ok)).status == 200
            await collector.until(lambda: bool(collector.of(CallEnded)))
    assert source.stats().dropped == {}


async def test_a_peer_without_the_certificate_that_is_asked_for_stays_outside(
    certificates: Path,
) -> None:
    port = free_sip_port()
    source = tls_source(port, certificates, client_ca=certificates / "ca.pem")
    async with running(source):
        # In TLS 1.3 the client learns after its own handshake that it was refused.
        async with peer(port, "TLS", client_context(certificates)) as client:
            client.send(client.text("OPTIONS"))
            await client.closed()
        known = client_context(certificates, name="client")
        async with peer(port, "TLS", known) as client:
            client.send(client.text("OPTIONS"))
            assert (await client.final()).status == 200
    assert source.stats().dropped == {"handshake": 1}


async def test_whoever_speaks_no_tls_is_counted_and_leaves_room(certificates: Path) -> None:
    port = free_sip_port()
    source = tls_source(port, certificates)
    async with running(source):
        async with peer(port, "TCP") as client:
            client.send(client.text("OPTIONS"))
            await client.closed()
        await eventually(lambda: source.stats().dropped.get("handshake") == 1)


@pytest.mark.parametrize("missing", ["cert", "client_ca"])
async def test_a_certificate_that_cannot_be_read_is_a_source_error_naming_it(
    certificates: Path, tmp_path: Path, missing: str
) -> None:
    source = tls_source(free_sip_port(), certificates, **{missing: tmp_path / "none.pem"})
    with pytest.raises(SourceError, match=r"source sbc: tls: cannot use .*none\.pem.*: No such"):
        await source.run(_nowhere)


async def test_a_locked_key_without_its_password_is_a_source_error(certificates: Path) -> None:
    source = tls_source(free_sip_port(), certificates, key=certificates / "locked.key")
    with pytest.raises(SourceError, match=r"source sbc: tls: cannot use .*locked\.key"):
        await source.run(_nowhere)


async def _nowhere(event: object) -> None:
    raise AssertionError(event)


# Logging in.


async def test_a_peer_that_does_not_log_in_is_challenged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIP_PASSWORD", "secret")
    port = free_sip_port()
    users = [{"username": "sbc", "password": {"env": "SIP_PASSWORD"}}]
    source = make_source(port, digest={"users": users})
    async with running(source) as collector, peer(port) as client:
        challenge = await client.invite((20_000, 20_002))
        assert challenge.status == 401
        assert not collector.of(LegStarted)
