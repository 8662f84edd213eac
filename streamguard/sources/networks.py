"""Who may reach a source: networks, and whether an address is in one of them."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable

from pydantic import IPvAnyNetwork


def membership(networks: tuple[IPvAnyNetwork, ...]) -> Callable[[str], bool]:
    """Whether an address is in one of the networks; everybody is in none at all. Remembers the
    answers of the last thousand hosts: it is asked for every datagram."""

    @functools.lru_cache(maxsize=1024)
    def is_in(host: str) -> bool:
        if not networks:
            return True
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        return any(address.version == net.version and address in net for net in networks)

    return is_in
