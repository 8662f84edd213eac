from __future__ import annotations

from collections.abc import Sequence

import pytest

from tools.soak import Sample, growth_mb


def samples(rss_mb: Sequence[float]) -> list[Sample]:
    return [
        Sample(
            at_s=5.0 * index,
            audio_s=900.0 * index,
            rss_mb=rss,
            files=30,
            threads=10,
            tasks=60,
            queued_hops=0.0,
            outbox=0.0,
            alerts=index,
        )
        for index, rss in enumerate(rss_mb)
    ]


def test_what_the_warm_up_takes_is_no_growth() -> None:
    assert growth_mb(samples([150, 190, 210, 220, *[230.0] * 16])) == 0.0


def test_a_leak_is_growth_and_a_peak_is_none() -> None:
    leaking = [200.0 + 2.0 * index for index in range(100)]
    assert growth_mb(samples(leaking)) == pytest.approx(2.0 * 64)
    peak = [230.0] * 100
    peak[97] = 400.0
    assert growth_mb(samples(peak)) == 0.0
