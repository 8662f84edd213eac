"""Settings of the SIPREC source: what is accepted, and what a mistake is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from streamguard.sources.siprec_settings import SiprecSettings

USER: dict[str, Any] = {"username": "sbc", "password": {"env": "SIP_PASSWORD"}}
TLS: dict[str, Any] = {"cert": "server.pem", "key": "server.key"}


def siprec(**values: Any) -> SiprecSettings:
    return SiprecSettings.model_validate({"name": "sbc", **values})


def listen(transport: str = "udp", host: str = "192.0.2.1", **more: Any) -> list[dict[str, Any]]:
    return [{"transport": transport, "host": host, **more}]


def test_by_default_it_listens_on_loopback_over_udp_and_tcp() -> None:
    assert [str(one) for one in siprec().listen] == [
        "udp 127.0.0.1 port 5060",
        "tcp 127.0.0.1 port 5060",
    ]
    assert str(siprec().effective_media_host) == "127.0.0.1"
    assert siprec().media_ports[:2] == (41_000, 41_002)


def test_tls_has_a_port_of_its_own() -> None:
    (one,) = siprec(listen=listen("tls", "127.0.0.1"), tls=TLS).listen
    assert one.effective_port == 5061


@pytest.mark.parametrize(
    "who",
    [
        {"allow": ["192.0.2.0/24"]},
        {"digest": {"users": [USER]}},
        {"listen": listen("tls"), "tls": TLS | {"client_ca": "ca.pem"}},
    ],
)
def test_off_loopback_peers_are_told_apart_in_one_way_at_least(who: dict[str, Any]) -> None:
    values: dict[str, Any] = {"listen": listen(), **who}
    assert siprec(**values).listen


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"listen": listen()}, "not loopback"),
        ({"listen": listen("tls"), "tls": TLS}, "not loopback"),
        (
            {"listen": listen() + listen("tls", port=5062), "tls": {**TLS, "client_ca": "x"}},
            "not loop",
        ),
        ({"listen": listen("tls", "127.0.0.1")}, "certificate"),
        ({"listen": listen(host="0.0.0.0"), "allow": ["192.0.2.0/24"]}, "advertise"),  # refused
        ({"listen": listen() * 2, "allow": ["192.0.2.0/24"]}, "each address once"),
        ({"listen": []}, "listen"),
        ({"media_host": "::"}, "media_host"),
        (
            {"listen": listen(host="127.0.0.1") + listen("tcp"), "allow": ["192.0.2.0/24"]},
            "media_host: 127.0.0.1 is loopback, .* tcp 192.0.2.1 port 5060",
        ),
        ({"media_ports": [41_000, 41_000]}, "each port once"),
        ({"media_ports": [41_001]}, "media_ports"),
        ({"media_ports": "41998-41000"}, "empty"),
        ({"digest": {"users": []}}, "users"),
        ({"digest": {"users": [USER], "realm": 'a"b'}}, "realm"),
        ({"session_expires_s": 60}, "session_expires_s"),
        ({"max_calls": 0}, "max_calls"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        siprec(**values)


def test_an_unspecified_address_is_fine_where_another_is_advertised() -> None:
    settings = siprec(
        listen=listen(host="0.0.0.0"),  # with an allow-list
        allow=["192.0.2.0/24"],
        advertise="198.51.100.7",
    )
    assert str(settings.advertise) == "198.51.100.7"


def test_too_few_ports_and_missing_files_are_warned_of() -> None:
    warnings = list(siprec(listen=listen("tls", "127.0.0.1"), tls=TLS, max_calls=500).warnings())
    assert any("enough for 250 calls" in text for text in warnings)
    assert sum("no such file" in text for text in warnings) == 2
    assert list(siprec().warnings()) == []
