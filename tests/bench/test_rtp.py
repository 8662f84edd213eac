"""Capacity over real RTP: every packet is accounted for."""

from __future__ import annotations

import pytest

from tests.bench.test_report import needs_bundles
from tests.commands.cli import streamguard


@needs_bundles
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_bench_of_rtp_counts_every_packet_that_it_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamguard.bench.rtp.most_ports", lambda: 2)
    done = streamguard("bench", "--source", "rtp", "--ingest-only", "--seconds", "1", "--json")
    assert done.code == 0, done.err
    capacity = done.json()["capacity"]
    rtp = capacity["rtp"]
    trial = rtp["best"] or rtp["first_harmed"]
    assert 2 * 25 < trial["sent"] <= 2 * 50  # legs begin within half a second
    assert capacity["rtp_legs"] == (rtp["best"]["legs"] if rtp["best"] else 0)
    assert rtp["path"].startswith("ingest only")
    assert trial["windows_scored"] == 0
    assert capacity["budget_ms"] == 500
