"""What the settings of every source have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
"""Goes into topics, metrics and alerts as it is."""
