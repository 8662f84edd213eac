"""From events to blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.audio.frames import Mask, MaskedSpan, RawBlock
from streamguard.audio.intake import MAX_TONES, Intake
from streamguard.events import Audio, Gap, GapReason, Tone

RATE_HZ = 8_000
BLOCK = 4_000


def audio(first: int, count: int, value: int = 1000, at: float = 0.0) -> Audio:
    return Audio("leg", first, np.full(count, value, dtype=np.int16), at)


def gap(first: int, count: int, reason: GapReason = GapReason.LOST) -> Gap:
    return Gap("leg", first, count, reason, 0.0)


def tone(first: int, count: int) -> Tone:
    return Tone("leg", first, count, "dtmf-5", 0.0)


def test_packets_become_blocks_of_half_a_second() -> None:
    intake = Intake("leg", RATE_HZ)
    blocks = [b for k in range(60) for b in intake.audio(audio(k * 160, 160, k, k * 0.02))]
    assert [b.first_sample for b in blocks] == [0, 4000]
    assert all(len(b.samples) == BLOCK and b.segment == 0 and not b.spans for b in blocks)
    assert np.array_equal(np.concatenate([b.samples for b in blocks]), np.arange(8000) // 160)
    assert blocks[0].received_at == pytest.approx(24 * 0.02)
    assert not blocks[0].samples.flags.writeable


@given(sizes=st.lists(st.integers(1, 9000), max_size=8), rate_hz=st.sampled_from((8000, 11025)))
def test_blocks_do_not_depend_on_the_packets(sizes: list[int], rate_hz: int) -> None:
    samples = (np.arange(sum(sizes)) % 30_000).astype(np.int16)
    whole = Intake("leg", rate_hz).audio(Audio("leg", 0, samples, 0.0))
    intake = Intake("leg", rate_hz)
    parts: list[RawBlock] = []
    first = 0
    for size in sizes:
        parts += intake.audio(Audio("leg", first, samples[first : first + size], 0.0))
        first += size
    assert [b.first_sample for b in parts] == [b.first_sample for b in whole]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(parts, whole, strict=True))


def test_a_gap_is_zeros_with_its_reason_across_blocks() -> None:
    intake = Intake("leg", RATE_HZ)
    intake.audio(audio(0, 3000))
    blocks = intake.gap(gap(3000, 2000, GapReason.DTX))
    blocks += intake.audio(audio(5000, 3000))
    assert blocks[0].spans == (MaskedSpan(3000, 4000, Mask.DTX),)
    assert blocks[1].spans == (MaskedSpan(4000, 5000, Mask.DTX),)
    assert not blocks[0].samples[3000:].any()
    assert not blocks[1].samples[:1000].any()
    assert blocks[1].samples[1000:].all()


def test_a_hole_in_the_positions_is_lost_and_neighbouring_losses_are_one_span() -> None:
    intake = Intake("leg", RATE_HZ)
    intake.audio(audio(0, 1000))
    intake.gap(gap(1000, 160))
    intake.gap(gap(1160, 160))
    blocks = intake.audio(audio(1480, 4000))
    assert blocks[0].spans == (MaskedSpan(1000, 1480, Mask.LOST),)
    assert intake.stats()["lost_samples"] == 480


def test_samples_that_come_again_are_dropped_and_counted() -> None:
    intake = Intake("leg", RATE_HZ)
    intake.audio(audio(0, 2000, 1))
    assert intake.audio(audio(500, 500, 2)) == []
    blocks = intake.audio(audio(1900, 2100, 3))
    assert np.array_equal(np.unique(blocks[0].samples[:2000]), [1])
    assert np.array_equal(np.unique(blocks[0].samples[2000:]), [3])
    assert intake.stats()["overlap_samples"] == 600


def test_a_gap_announced_after_its_audio_came_changes_nothing() -> None:
    intake = Intake("leg", RATE_HZ)
    intake.audio(audio(0, 2000))
    intake.gap(gap(1000, 500))
    blocks = intake.audio(audio(2000, 2000))
    assert blocks[0].spans == ()


def test_a_hole_beyond_ten_seconds_is_a_new_segment_on_the_same_grid() -> None:
    intake = Intake("leg", RATE_HZ)
    intake.audio(audio(0, 1000))
    first = 1000 + 11 * RATE_HZ
    blocks = intake.audio(audio(first, 4000))
    assert len(blocks) == 1
    assert blocks[0].segment == 1
    assert blocks[0].first_sample == 88_000
    assert blocks[0].spans == (MaskedSpan(88_000, first, Mask.DTX),)
    stats = intake.stats()
    assert stats["jumps"] == 1
    assert stats["tail_samples"] == 1000
    assert "lost_samples" not in stats


def test_one_gap_event_never_makes_work_without_bound() -> None:
    intake = Intake("leg", RATE_HZ)
    intake.audio(audio(0, 1000))
    assert intake.gap(gap(1000, 10**12, GapReason.DTX)) == []
    blocks = intake.audio(audio(1000 + 10**12, 4000))
    assert [b.segment for b in blocks] == [1]


def test_a_new_segment_shares_its_first_block_with_the_masked_tail_of_the_old_one() -> None:
    intake = Intake("leg", RATE_HZ)
    intake.audio(audio(0, 1500, 7))
    intake.segment(1500)
    blocks = intake.audio(audio(1500, 2500, 9))
    assert blocks[0].segment == 1
    assert blocks[0].first_sample == 0
    assert blocks[0].spans == (MaskedSpan(0, 1500, Mask.DTX),)
    assert not blocks[0].samples[:1500].any()
    assert np.array_equal(np.unique(blocks[0].samples[1500:]), [9])


def test_a_segment_that_counts_from_somewhere_else_follows_on() -> None:
    intake = Intake("leg", RATE_HZ)
    intake.audio(audio(8000, 8000))
    intake.segment(0)
    blocks = intake.audio(audio(0, 4000))
    assert [(b.segment, b.first_sample) for b in blocks] == [(1, 16_000)]


def test_a_tone_masks_samples_already_there_and_samples_to_come() -> None:
    intake = Intake("leg", RATE_HZ)
    intake.audio(audio(0, 3800))
    intake.tone(tone(3000, 160))
    intake.tone(tone(3000, 1600))
    blocks = intake.audio(audio(3800, 4200))
    assert blocks[0].spans == (MaskedSpan(3000, 4000, Mask.TONE),)
    assert blocks[1].spans == (MaskedSpan(4000, 4600, Mask.TONE),)
    assert not blocks[0].samples[3000:].any()
    assert blocks[1].samples[600:].all()


def test_tones_that_wait_are_bounded() -> None:
    intake = Intake("leg", RATE_HZ)
    for k in range(MAX_TONES + 5):
        intake.tone(tone(100 * k, 50))
    intake.tone(tone(10**9, 50))
    assert intake.stats()["tones_dropped"] == 6


def test_on_hold_everything_is_masked_and_the_speaker_returns_in_a_new_segment() -> None:
    intake = Intake("leg", RATE_HZ)
    intake.audio(audio(0, 4000))
    intake.hold()
    held = intake.audio(audio(4000, 4000, 5))
    assert held[0].spans == (MaskedSpan(4000, 8000, Mask.HOLD),)
    assert not held[0].samples.any()
    intake.resume()
    back = intake.audio(audio(8000, 4000, 6))
    assert back[0].segment == held[0].segment + 1
    assert back[0].spans == ()


def test_silence_on_hold_is_no_loss() -> None:
    intake = Intake("leg", RATE_HZ)
    intake.audio(audio(0, 4000))
    intake.hold()
    intake.resume()
    blocks = intake.audio(audio(8000, 4000))
    assert [(b.first_sample, b.spans) for b in blocks] == [(8000, ())]


@pytest.mark.parametrize("next_first", [6000, 12_000])
def test_after_a_change_of_rate_time_goes_on_however_the_source_counts(next_first: int) -> None:
    intake = Intake("leg", RATE_HZ)
    intake.audio(audio(0, 6000))
    intake.media_changed(16_000)
    blocks = intake.audio(audio(next_first, 4000))
    assert [(b.segment, b.first_sample, b.rate_hz) for b in blocks] == [(1, 8000, 16_000)]
    assert blocks[0].spans == (MaskedSpan(8000, 12_000, Mask.DTX),)
    assert intake.stats()["tail_samples"] == 2000


@pytest.mark.parametrize("rate_hz", [0, 3_999, 192_001])
def test_an_impossible_rate_is_refused_at_the_door(rate_hz: int) -> None:
    with pytest.raises(ValueError, match=f"rate {rate_hz} Hz"):
        Intake("leg", rate_hz)


def test_float_samples_stay_float_and_a_change_of_kind_is_scaled() -> None:
    intake = Intake("leg", RATE_HZ)
    intake.audio(audio(0, 2000, 16_384))
    half = np.full(6000, 0.5, dtype=np.float32)
    blocks = intake.audio(Audio("leg", 2000, half, 0.0))
    assert [b.samples.dtype for b in blocks] == [np.float32, np.float32]
    assert all(np.array_equal(np.unique(b.samples), [0.5]) for b in blocks)


def test_the_tail_of_a_leg_is_dropped_and_counted() -> None:
    intake = Intake("leg", RATE_HZ)
    intake.audio(audio(0, 4100))
    intake.end()
    assert intake.stats()["tail_samples"] == 100
    assert intake.stats()["audio_samples"] == 4100


EVENT = st.one_of(
    st.builds(audio, st.integers(-5000, 200_000), st.integers(0, 6000)),
    st.builds(gap, st.integers(-5000, 200_000), st.integers(0, 200_000)),
    st.builds(tone, st.integers(-5000, 200_000), st.integers(0, 5000)),
    st.sampled_from(("hold", "resume", "segment", "media_changed")),
)


@given(events=st.lists(EVENT, max_size=30))
def test_blocks_stay_on_the_grid_and_masked_samples_are_zero(
    events: list[Audio | Gap | Tone | str],
) -> None:
    intake = Intake("leg", RATE_HZ)
    blocks: list[RawBlock] = []
    rates = [11_025, RATE_HZ]
    for event in events:
        match event:
            case Audio():
                blocks += intake.audio(event)
            case Gap():
                blocks += intake.gap(event)
            case Tone():
                blocks += intake.tone(event)
            case "hold":
                blocks += intake.hold()
            case "resume":
                blocks += intake.resume()
            case "segment":
                blocks += intake.segment(50_000)
            case _:
                rates.reverse()
                blocks += intake.media_changed(rates[1])
    for block in blocks:
        size = block.rate_hz // 2
        assert len(block.samples) == size
        assert block.first_sample % size == 0
        masked = np.zeros(size, dtype=np.bool_)
        for span in block.spans:
            assert block.first_sample <= span.start < span.stop <= block.first_sample + size
            masked[span.start - block.first_sample : span.stop - block.first_sample] = True
        assert not block.samples[masked].any()
        assert (block.samples[~masked] == 1000).all()
    for before, after in itertools.pairwise(blocks):
        if before.segment == after.segment:
            assert after.first_sample == before.first_sample + len(before.samples)
    order = [(b.segment, b.first_sample / b.rate_hz) for b in blocks]
    assert order == sorted(order)
    assert len({(b.rate_hz, b.first_sample) for b in blocks}) == len(blocks)
