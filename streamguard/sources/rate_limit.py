"""How often a stranger may ask: a token bucket per host, for a bounded number of hosts."""

from __future__ import annotations

from collections import OrderedDict

MAX_HOSTS = 4_096


class RateLimit:
    """``per_s`` requests a second of each host, ``burst`` at once after a pause.

    When more hosts ask than are remembered, the one that asked least recently is forgotten, and
    begins anew: whoever has thousands of addresses is for a firewall to stop.
    """

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._hosts: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Host -> tokens and when they were counted; most recent last."""

    def allows(self, host: str, now: float) -> bool:
        """Whether the host may ask once more; counts the asking if so."""
        tokens, counted_at = self._hosts.get(host, (self._burst, now))
        tokens = min(self._burst, tokens + (now - counted_at) * self._per_s)
        allowed = tokens >= 1.0
        self._hosts[host] = (tokens - 1.0 if allowed else tokens, now)
        self._hosts.move_to_end(host)
        if len(self._hosts) > MAX_HOSTS:
            self._hosts.popitem(last=False)
        return allowed
