from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamguard.telemetry.settings import HttpSettings, LogSettings


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:8099", "[::1]:0", "localhost:1", "127.8.0.1:9", None]
)
def test_loopback_needs_no_token(listen: str | None) -> None:
    assert HttpSettings(listen=listen).listen == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:8099", "192.0.2.1:80", "[::]:8099"])
def test_an_address_that_others_reach_needs_a_token(listen: str) -> None:
    with pytest.raises(ValidationError, match="set token"):
        HttpSettings(listen=listen)
    settings = HttpSettings.model_validate({"listen": listen, "token": {"env": "SG_TOKEN"}})
    assert settings.listen == listen


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("8099", "address:port"),
        (":8099", "address:port"),
        ("::1:8099", "in brackets"),
        ("127.0.0.1:70000", "65535"),
        ("127.0.0.1:http", "65535"),
        ("127.0.0.1:²", "65535"),
        ("example.org:80", "IP address"),
    ],
)
def test_an_impossible_address_says_what_is_allowed(listen: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HttpSettings(listen=listen)


def test_a_level_or_format_we_do_not_know_is_refused() -> None:
    with pytest.raises(ValidationError, match="debug"):
        LogSettings.model_validate({"level": "verbose"})
    with pytest.raises(ValidationError, match="json"):
        LogSettings.model_validate({"format": "xml"})
