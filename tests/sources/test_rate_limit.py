"""How often a host may ask."""

from __future__ import annotations

import pytest

from streamguard.sources import rate_limit
from streamguard.sources.networks import membership
from streamguard.sources.rate_limit import RateLimit


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    limit = RateLimit(per_s=2.0, burst=3)
    assert [limit.allows("a", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert [limit.allows("a", 0.5), limit.allows("a", 0.5)] == [True, False]
    assert [limit.allows("a", 100.0) for _ in range(4)] == [True, True, True, False]


def test_each_host_has_its_own() -> None:
    limit = RateLimit(per_s=1.0, burst=1)
    assert [limit.allows(host, 0.0) for host in ("a", "a", "b")] == [True, False, True]


def test_asking_in_vain_costs_nothing_more() -> None:
    limit = RateLimit(per_s=1.0, burst=1)
    assert limit.allows("a", 0.0)
    assert not any(limit.allows("a", n / 100) for n in range(90))
    assert limit.allows("a", 1.0)


def test_no_more_hosts_are_remembered_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "MAX_HOSTS", 100)
    limit = RateLimit(per_s=1.0, burst=1)
    for number in range(1_000):
        limit.allows(f"host{number}", 0.0)
    assert len(limit._hosts) == 100


def test_an_address_is_in_its_networks_and_everybody_in_none() -> None:
    from ipaddress import ip_network

    inside = membership((ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")))
    hosts = ["192.0.2.7", "192.0.3.7", "2001:db8::1", "fe80::1%eth0", "nonsense"]
    assert [inside(host) for host in hosts] == [True, False, True, False, False]
    assert membership(())("anything")
