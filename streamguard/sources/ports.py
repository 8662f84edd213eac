"""How a configuration names the ports that RTP is received on."""

from __future__ import annotations

import re
from typing import Any

_PORT_RANGE = re.compile(r"^\s*(\d{1,5})\s*-\s*(\d{1,5})\s*$")


def even_ports(value: Any) -> Any:
    """``"40000-40006"`` is the even ports from the first to the last; a list is left as it is."""
    if isinstance(value, str):
        match = _PORT_RANGE.match(value)
        if match is None:
            raise ValueError('a list of even ports, or a range such as "40000-40006"')
        first, last = int(match[1]), int(match[2])
        if first > last:
            raise ValueError(f"the range {value} is empty")
        return tuple(range(first + first % 2, last + 1, 2))
    return value
