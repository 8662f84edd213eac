"""Clips through the daemon's own path, with the committed detector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streamguard.verdict.scores import Channel, Rejection
from tests.tools.clips import buzz
from tools.scoring import DaemonScorer, over

BUNDLE = Path(__file__).parents[2] / "models" / "cnn_lstm" / "bundle"


@pytest.fixture(scope="module")
def scorer() -> Iterator[DaemonScorer]:
    if not (BUNDLE / "bundle.yaml").exists():
        pytest.skip("models/cnn_lstm/bundle is not there")
    scorer = DaemonScorer(BUNDLE)
    yield scorer
    scorer.close()


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return buzz()


def test_five_seconds_of_speech_are_five_windows(scorer: DaemonScorer, voice: np.ndarray) -> None:
    windows = scorer.windows(voice, 16000)
    assert [(window.start_s, window.usable_hops) for window in windows] == [
        (start_s, 6) for start_s in (0.0, 0.5, 1.0, 1.5, 2.0)
    ]
    assert len({window.raw for window in windows}) == 5


def test_a_short_clip_gets_its_partial_window(scorer: DaemonScorer, voice: np.ndarray) -> None:
    (window,) = scorer.windows(voice[:20000], 16000)
    assert window.usable_hops == 2
    assert window.raw is not None


def test_clips_do_not_hear_of_each_other(scorer: DaemonScorer, voice: np.ndarray) -> None:
    before = scorer.windows(voice, 16000)
    scorer.windows(voice[::-1].copy(), 16000)
    after = scorer.windows(voice, 16000)
    assert [window.raw for window in before] == [window.raw for window in after]


def test_a_telephone_line_is_heard_as_narrow_and_both_laws_occur(
    scorer: DaemonScorer, voice: np.ndarray
) -> None:
    mu_law, rate = over("telephone", voice, 0)
    a_law, _ = over("telephone", voice, 1)
    assert rate == 8000
    assert len(mu_law) == len(voice) // 2
    assert not np.array_equal(mu_law, a_law)
    assert {window.channel for window in scorer.windows(mu_law, rate)} == {Channel.NARROW}


def test_silence_has_no_usable_hop(scorer: DaemonScorer) -> None:
    (window,) = scorer.windows(np.zeros(48000, np.int16), 16000)
    assert (window.usable_hops, window.rejected) == (0, Rejection.SILENCE)


def test_packets_that_all_come_change_nothing(scorer: DaemonScorer, voice: np.ndarray) -> None:
    packets = -(-len(voice) // 320)
    whole = scorer.windows(voice, 16000)
    assert scorer.windows(voice, 16000, np.zeros(packets, np.bool_)) == whole


def test_lost_packets_reach_the_gate_as_gaps(scorer: DaemonScorer, voice: np.ndarray) -> None:
    lost = np.zeros(-(-len(voice) // 320), np.bool_)
    lost[::4] = True  # in every hop, more than the tenth that the gate lets pass
    windows = scorer.windows(voice, 16000, lost)
    assert {window.rejected for window in windows} == {Rejection.PACKET_LOSS}
    lost[:] = False
    lost[:3] = True  # in the first hop alone
    first, *others = scorer.windows(voice, 16000, lost)
    assert (first.rejected, first.usable_hops) == (None, 5)
    assert {window.usable_hops for window in others} == {6}
