"""Settings of what connects by WebSocket or AudioSocket, and what a mistake is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from streamguard.settings import secrets_in
from streamguard.sources.audiosocket_settings import AudioSocketSettings
from streamguard.sources.media_ws_settings import MediaWsSettings
from streamguard.sources.settings import SourceSettings

TOKEN = {"env": "TOKEN"}
ADAPTER: TypeAdapter[Any] = TypeAdapter(SourceSettings)


def media_ws(*paths: dict[str, Any], **values: Any) -> MediaWsSettings:
    return MediaWsSettings.model_validate({"name": "cloud", "paths": paths, **values})


def problem(*paths: dict[str, Any], **values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        media_ws(*paths, **values)
    return str(caught.value)


def test_the_types_are_told_apart() -> None:
    parsed = [
        ADAPTER.validate_python(value)
        for value in (
            {"type": "audiosocket", "name": "a"},
            {"type": "media_ws", "name": "b", "paths": [{"dialect": "twilio"}]},
        )
    ]
    assert [type(one) for one in parsed] == [AudioSocketSettings, MediaWsSettings]


def test_every_dialect_has_a_path_of_its_own_and_roles() -> None:
    names = ("twilio", "telnyx", "vonage", "audiohook", "freeswitch", "asterisk")
    settings = media_ws(*({"dialect": name} for name in names))
    assert [entry.path for entry in settings.paths] == [f"/{name}" for name in names]


@pytest.mark.parametrize(
    "name", ["twilio", "telnyx", "vonage", "audiohook", "freeswitch", "asterisk"]
)
def test_beyond_loopback_every_path_needs_a_credential(name: str) -> None:
    text = problem({"dialect": name}, listen="0.0.0.0:8443")
    assert f"these paths need a credential: /{name}" in text
    credentials: dict[str, dict[str, Any]] = {
        "twilio": {"auth_token": TOKEN, "url": "wss://guard.example.com/twilio"},
        "vonage": {"signature_secret": TOKEN},
        "audiohook": {"api_key": TOKEN},
    }
    credential = credentials.get(name, {"token": TOKEN})
    settings = media_ws({"dialect": name, **credential}, listen="0.0.0.0:8443")
    assert len(secrets_in(settings)) == 1


def test_listening_in_clear_beyond_loopback_is_warned_of() -> None:
    path = {"dialect": "telnyx", "token": TOKEN}
    assert "in clear" in media_ws(path, listen="0.0.0.0:8443").warnings()[0]
    tls = {"cert": "c.pem", "key": "k.pem"}
    assert media_ws(path, listen="0.0.0.0:8443", tls=tls).warnings() == ()
    assert media_ws(path).warnings() == ()


@pytest.mark.parametrize(
    ("path", "values", "expected"),
    [
        ({"dialect": "twilio", "auth_token": TOKEN}, {}, "auth_token and url go together"),
        ({"dialect": "twilio", "url": "https://x/y"}, {}, "begins with wss://"),
        ({"dialect": "audiohook", "client_secret": TOKEN}, {}, "needs the api_key"),
        (
            {"dialect": "vonage", "token": TOKEN, "signature_secret": TOKEN},
            {},
            "signature_secret or token, not both",
        ),
        ({"dialect": "vonage", "path": "no-slash"}, {}, "paths.0.vonage.path"),
        ({"dialect": "freeswitch", "rate_hz": 7_999}, {}, "greater than or equal to 8000"),
        ({"dialect": "fax"}, {}, "'twilio', 'telnyx', 'vonage'"),
        ({"dialect": "vonage"}, {"listen": "8443"}, "must be address:port"),
        ({"dialect": "vonage"}, {"paths": []}, "at least 1"),
    ],
)
def test_a_mistake_is_told(path: dict[str, Any], values: dict[str, Any], expected: str) -> None:
    assert expected in problem(path, **values)


def test_each_path_is_there_once() -> None:
    assert "each path once; twice: /vonage" in problem({"dialect": "vonage"}, {"dialect": "vonage"})


def test_an_audiosocket_beyond_loopback_names_who_may_connect() -> None:
    listen = {"name": "pbx", "listen": "0.0.0.0:9092"}
    with pytest.raises(ValidationError, match="name in 'allow' the networks"):
        AudioSocketSettings.model_validate(listen)
    settings = AudioSocketSettings.model_validate({**listen, "allow": ["10.0.0.0/8"]})
    assert settings.address == ("0.0.0.0", 9092)
