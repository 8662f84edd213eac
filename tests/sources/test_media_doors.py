"""Who may come in by WebSocket: credentials, networks, certificates, over real connections."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from streamguard.errors import SourceError
from streamguard.events import CallStarted, EndReason, Gap, Hold, Resume
from streamguard.sources.media_ws import MediaWsSource
from tests.protocols.media_play import FIRST_HZ, SECOND_HZ, Message, transcript
from tests.protocols.test_handshake import jwt
from tests.sources.collect import Collector, running
from tests.sources.media_client import (
    heard,
    refused,
    send,
    source_with,
    ulaw,
    until_ended,
    url,
    wide,
)

TOKEN = "a token of our own"
CLIENT_SECRET = b"32 bytes that nobody else knows!"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WS_TOKEN", TOKEN)
    monkeypatch.setenv("WS_CLIENT_SECRET", base64.b64encode(CLIENT_SECRET).decode())


def audiohook_headers(source: MediaWsSource, path: str, nonce: str = "n" * 22) -> dict[str, str]:
    """What Genesys Cloud sends with the request, signed with the client secret."""
    ours = {
        "audiohook-organization-id": "d7934305-0972-4844-938e-9060eef73d05",
        "audiohook-session-id": "30b0e395-84d3-4570-ac13-9a62d8f514c0",
        "audiohook-correlation-id": "e160e428-53e2-487c-977d-96989bf5c99d",
        "x-api-key": TOKEN,
    }
    names = ["@request-target", "@authority", *ours]
    listed = " ".join(f'"{name}"' for name in names)
    terms = (
        f'({listed});keyid="{TOKEN}";nonce="{nonce}";alg="hmac-sha256"'
        f";created={int(time.time())};expires={int(time.time()) + 10}"
    )
    values = {"@request-target": path, "@authority": f"127.0.0.1:{source.port}", **ours}
    lines = [f'"{name}": {values[name]}' for name in names] + [f'"@signature-params": {terms}']
    digest = hmac.new(CLIENT_SECRET, "\n".join(lines).encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    return {**ours, "Signature-Input": f"sig1={terms}", "Signature": f"sig1=:{signature}:"}


AUDIOHOOK = {
    "dialect": "audiohook",
    "api_key": {"env": "WS_TOKEN"},
    "client_secret": {"env": "WS_CLIENT_SECRET"},
}


async def test_an_audiohook_session_is_held_as_genesys_holds_it() -> None:
    source = source_with(AUDIOHOOK)
    opening, *rest = transcript("audiohook")
    async with running(source) as collector:
        headers = audiohook_headers(source, "/audiohook")
        async with connect(url(source, "/audiohook"), additional_headers=headers) as client:
            await send(client, [opening])
            opened = json.loads(await client.recv())
            assert (opened["type"], opened["clientseq"]) == ("opened", 1)
            await send(client, rest)
            answers = [json.loads(await client.recv())["type"] for _ in range(2)]
            assert answers == ["pong", "closed"]
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1000
        assert await until_ended(collector) == [EndReason.HANGUP]
        for leg, hertz in zip(heard(collector), (FIRST_HZ, SECOND_HZ), strict=True):
            samples = ulaw(hertz, 4_800)
            np.testing.assert_array_equal(leg[:3_200], samples[:3_200])
            np.testing.assert_array_equal(leg[13_200:], samples[3_200:])
        assert (len(collector.of(Hold)), len(collector.of(Resume))) == (2, 2)
        assert len(collector.of(Gap)) == 4
        assert not source.stats().dropped


async def test_each_path_asks_for_its_own_credential() -> None:
    token = {"env": "WS_TOKEN"}
    public = "wss://guard.example.com/twilio"
    source = source_with(
        {"dialect": "twilio", "auth_token": token, "url": public},
        {"dialect": "telnyx", "token": token},
        {"dialect": "vonage", "token": token},
        {"dialect": "vonage", "path": "/signed", "signature_secret": token},
        AUDIOHOOK,
        {"dialect": "freeswitch", "token": token},
        {"dialect": "asterisk", "token": token},
    )
    digest = hmac.new(TOKEN.encode(), public.encode(), hashlib.sha1).digest()
    bearer = f"Bearer {TOKEN}"
    basic = "Basic " + base64.b64encode(f"asterisk:{TOKEN}".encode()).decode()
    async with running(source) as collector:
        known = {
            "/twilio": {"X-Twilio-Signature": base64.b64encode(digest).decode()},
            "/telnyx": {"Authorization": bearer},
            "/vonage": {"Authorization": bearer},
            "/signed": {"Authorization": jwt({"iat": int(time.time())})["authorization"]},
            "/audiohook": audiohook_headers(source, "/audiohook"),
            "/freeswitch": {"Authorization": bearer},
            "/asterisk": {"Authorization": basic},
        }
        for path, headers in known.items():
            assert await refused(source, path) == 401, path
            assert await refused(source, path, Authorization="Bearer nonsense") == 401, path
            assert await refused(source, path, **headers) == 0, path
        for path in ("/signed", "/audiohook"):  # what is signed for one request opens once
            assert await refused(source, path, **known[path]) == 401, path
        assert await refused(source, "/nowhere") == 404
        assert collector.of(CallStarted) == []
        dropped = source.stats().dropped
        assert dropped["replayed"] == 2
        assert dropped["unauthorized"] >= 10


async def test_a_token_may_come_with_the_start_message_of_telnyx() -> None:
    source = source_with({"dialect": "telnyx", "token": {"env": "WS_TOKEN"}, "token_in": "start"})
    connected, start, *media = transcript("telnyx")
    assert isinstance(start.content, str)
    fields = json.loads(start.content)
    fields["start"]["custom_parameters"] = {"streamguard_token": TOKEN}
    async with running(source) as collector:
        async with connect(url(source, "/telnyx")) as stranger:
            await send(stranger, [connected, start, media[0]])
            with pytest.raises(ConnectionClosed) as closed:
                await stranger.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "unauthorized")
        assert collector.of(CallStarted) == []
        async with connect(url(source, "/telnyx")) as client:
            await send(client, [connected, Message(0.0, json.dumps(fields)), *media])
            assert await until_ended(collector) == [EndReason.HANGUP]


async def test_only_allowed_networks_may_connect() -> None:
    source = source_with({"dialect": "twilio"}, allow=["192.0.2.0/24"])
    async with running(source):
        assert await refused(source, "/twilio") == 403


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


async def test_calls_may_come_encrypted(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    source = source_with({"dialect": "vonage"}, tls={"cert": str(cert), "key": str(key)})
    trusted = ssl.create_default_context(cafile=str(cert))
    async with running(source) as collector:
        async with connect(url(source, "/vonage", "wss"), ssl=trusted) as client:
            await send(client, transcript("vonage"))
        assert await until_ended(collector) == [EndReason.HANGUP]
        np.testing.assert_array_equal(heard(collector)[0], wide(FIRST_HZ))


@pytest.mark.parametrize(
    ("path", "values", "reason"),
    [
        ({"dialect": "vonage", "token": {"env": "WS_ABSENT"}}, {}, "WS_ABSENT is not set"),
        (
            {"dialect": "vonage"},
            {"tls": {"cert": "/nowhere.pem", "key": "/nowhere.key"}},
            "cannot use /nowhere.pem",
        ),
        (
            {
                "dialect": "audiohook",
                "api_key": {"env": "WS_TOKEN"},
                "client_secret": {"env": "WS_TOKEN"},
            },
            {},
            "client_secret is not base64",
        ),
    ],
)
async def test_a_secret_or_certificate_that_is_not_there_is_a_source_error(
    path: dict[str, Any], values: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SourceError, match=reason):
        await source_with(path, **values).run(Collector().emit)
