from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from streamguard.alerts.settings import MqttSettings, OutboxSettings, SeveritySettings


def test_the_port_follows_from_tls() -> None:
    assert MqttSettings().effective_port == 1883
    assert MqttSettings.model_validate({"tls": {}}).effective_port == 8883
    assert MqttSettings.model_validate({"tls": {}, "port": 1884}).effective_port == 1884


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "[::1]"])
def test_a_broker_on_this_machine_needs_no_warning(host: str) -> None:
    assert MqttSettings(host=host).warnings() == ()


def test_a_broker_elsewhere_without_tls_is_allowed_and_warned_of() -> None:
    (warning,) = MqttSettings(host="broker.example").warnings()
    assert "in clear" in warning
    assert MqttSettings.model_validate({"host": "broker.example", "tls": {}}).warnings() == ()


@pytest.mark.parametrize("prefix", ["a+b", "a/#", "$SYS", "/a", "a/", "a//b", "a\nb"])
def test_a_prefix_that_is_no_topic_is_refused(prefix: str) -> None:
    with pytest.raises(ValidationError):
        MqttSettings(prefix=prefix)


def test_protocol_five_may_be_written_as_a_number() -> None:
    assert MqttSettings.model_validate({"protocol": 5}).protocol == "5"
    with pytest.raises(ValidationError):
        MqttSettings.model_validate({"protocol": 4})


def test_half_a_client_certificate_is_refused() -> None:
    with pytest.raises(ValidationError, match="cert and key go together"):
        MqttSettings.model_validate({"tls": {"cert": "a.pem"}})


def test_a_password_without_a_user_is_refused() -> None:
    with pytest.raises(ValidationError, match="password needs a username"):
        MqttSettings.model_validate({"password": {"env": "X"}})


def test_a_password_in_the_configuration_itself_is_refused() -> None:
    with pytest.raises(ValidationError):
        MqttSettings.model_validate({"username": "u", "password": "hunter2"})


def test_severities_ascend() -> None:
    with pytest.raises(ValidationError, match="suspect <= spoof"):
        SeveritySettings(suspect=5, spoof=2)


def test_the_outbox_lies_in_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/x/state")
    assert OutboxSettings().location == Path("/x/state/streamguard/outbox.sqlite3")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/streamguard")
    assert OutboxSettings().location == Path("/var/lib/streamguard/outbox.sqlite3")
    assert OutboxSettings(path=Path("here.db")).location == Path("here.db")
