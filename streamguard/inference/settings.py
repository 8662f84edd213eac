"""Settings of the inference worker and the scorer."""

from __future__ import annotations

from pydantic import Field

from streamguard.settings import Section


class InferenceSettings(Section):
    """Batches, bounds, and when attribution runs."""

    max_batch: int = Field(
        default=8, ge=1, le=1024, description="Hops scored in one engine call, over all legs"
    )
    max_wait_ms: float = Field(
        default=5.0,
        ge=0.0,
        le=250.0,
        description="Longest wait of a hop for others to share its batch",
    )
    deadline_ms: float = Field(
        default=2000.0,
        ge=50.0,
        le=60_000.0,
        description="A window of a live leg that is scored later than this after its last sample "
        "is counted as late and rejected as overload",
    )
    queue_hops_per_leg: int = Field(
        default=4,
        ge=1,
        le=64,
        description="Hops of one leg that may wait; then the oldest goes (live) or the file waits",
    )
    queue_hops_total: int = Field(
        default=256, ge=1, le=65_536, description="Hops of all legs together that may wait"
    )
    attribution_min_llr: float = Field(
        default=0.0,
        ge=-20.0,
        le=20.0,
        description="Attribution runs on windows whose detection LLR is at least this",
    )
    attribution_catch_up_hops: int = Field(
        default=6,
        ge=0,
        le=64,
        description="Earlier hops of a leg that attribution may run on with each new hop of it",
    )
