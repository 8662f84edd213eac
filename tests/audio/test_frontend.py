"""From blocks to hops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.audio.frames import Hop, Mask, MaskedSpan, RawBlock
from streamguard.audio.frontend import ChannelTracker, FrontEnd
from streamguard.audio.intake import Intake
from streamguard.audio.level import normalise
from streamguard.audio.settings import GateSettings
from streamguard.events import Audio, Gap, GapReason
from streamguard.verdict.scores import Channel

from .signals import lines, listen, noise, recorded_speech

CONTEXT = 240


def block(
    first: int,
    samples: np.ndarray[tuple[int], np.dtype[np.float32]],
    segment: int = 0,
    rate_hz: int = 16_000,
    spans: tuple[MaskedSpan, ...] = (),
) -> RawBlock:
    return RawBlock("leg", segment, first, samples, rate_hz, spans, 1.5)


def front_end() -> FrontEnd:
    return FrontEnd("leg", CONTEXT, GateSettings())


def same(one: list[Hop], other: list[Hop]) -> bool:
    return len(one) == len(other) and all(
        a.index == b.index
        and np.array_equal(a.samples, b.samples)
        and np.array_equal(a.context, b.context)
        and a.quality == b.quality
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 44_100, 48_000])
@settings(max_examples=6)
@given(data=st.data())
def test_hops_do_not_depend_on_the_chunking(rate_hz: int, data: st.DataObject) -> None:
    duration_s = 2.1
    rng = np.random.default_rng(1)
    shape = np.sin(np.arange(round(duration_s * rate_hz)) / rate_hz * 20.0)
    samples = (8000 * shape * rng.standard_normal(len(shape)) / 3).astype(np.int16)
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=40).map(sorted))
    whole, _ = listen(samples, rate_hz)
    assert [hop.index for hop in whole][:3] == [0, 1, 2]
    intake = Intake("leg", rate_hz)
    front = front_end()
    hops: list[Hop] = []
    for begin, end in itertools.pairwise([0, *cuts, len(samples)]):
        for raw in intake.audio(Audio("leg", begin, samples[begin:end], 0.0)):
            hops += front.process(raw)
    assert same(hops, whole)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 48_000])
def test_hop_k_comes_when_its_half_second_is_there(rate_hz: int) -> None:
    intake = Intake("leg", rate_hz)
    front = front_end()
    silence = np.zeros(rate_hz // 2, dtype=np.int16)
    for k in range(8):
        blocks = intake.audio(Audio("leg", k * len(silence), silence, float(k)))
        hops = [hop for raw in blocks for hop in front.process(raw)]
        assert [(hop.index, hop.received_at) for hop in hops] == [(k, float(k))]


def test_a_rate_without_a_whole_half_second_keeps_up_on_average() -> None:
    hops, _ = listen(np.zeros(11_025 * 20, dtype=np.int16), 11_025)
    assert [hop.index for hop in hops] == list(range(39))  # 20 s less half a sample per block


def test_the_hops_are_the_normalised_leg_late_by_the_stated_delay() -> None:
    clip = lines((440.0, 1000.0), 3.0) * np.linspace(0.2, 1.0, 48_000, dtype=np.float32)
    hops, front = listen(clip)
    assert front.delay == 160
    out = np.concatenate([hop.samples for hop in hops])
    assert np.array_equal(out[:160], np.zeros(160, dtype=np.float32))
    assert np.allclose(out[160:], normalise(clip)[:-160], atol=1e-6)


def test_the_context_is_what_was_delivered_before() -> None:
    hops, _ = listen(noise(-30.0, 3.0))
    assert not hops[0].context.any()
    for before, after in itertools.pairwise(hops):
        assert np.array_equal(after.context, before.samples[-CONTEXT:])
        assert not after.samples.flags.writeable


def test_a_context_longer_than_a_hop_has_zeros_before_the_segment_only() -> None:
    intake = Intake("leg", 16_000)
    front = FrontEnd("leg", 12_000, GateSettings())
    hops = [
        hop
        for raw in intake.audio(Audio("leg", 0, noise(-30.0, 1.5), 0.0))
        for hop in front.process(raw)
    ]
    assert not hops[1].context[:4000].any()
    assert np.array_equal(hops[1].context[4000:], hops[0].samples)
    assert np.array_equal(hops[2].context[4000:], hops[1].samples)
    assert np.array_equal(hops[2].context[:4000], hops[0].samples[4000:])


def test_a_replay_is_bit_for_bit_what_was_delivered() -> None:
    hops, front = listen(noise(-30.0, 6.0))
    replayed = front.replay(8, CONTEXT)
    assert replayed is not None
    assert np.array_equal(replayed, np.concatenate((hops[8].context, hops[8].samples)))
    assert front.replay(3, CONTEXT) is None  # overwritten
    assert front.replay(12, CONTEXT) is None  # not there yet


def test_a_replay_of_the_first_hop_has_zeros_for_context() -> None:
    hops, front = listen(noise(-30.0, 1.0))
    replayed = front.replay(0, CONTEXT)
    assert replayed is not None
    assert np.array_equal(replayed, np.concatenate((np.zeros(CONTEXT), hops[0].samples)))


def test_a_new_segment_starts_from_nothing() -> None:
    front = front_end()
    loud, quiet = noise(-10.0, 0.5), np.float32(0.1) * noise(-10.0, 0.5)
    for k in range(4):
        front.process(block(8000 * k, loud))
    (hop,) = front.process(block(32_000, quiet, segment=1))
    (alone,) = front_end().process(block(0, quiet))
    assert hop.index == 4
    assert hop.segment == 1
    assert not hop.context.any()
    assert np.array_equal(hop.samples, alone.samples)
    assert front.replay(3, CONTEXT) is None


def test_after_a_jump_in_time_context_and_replay_follow_the_new_grid() -> None:
    front = front_end()
    front.process(block(0, noise(-10.0, 0.5)))
    (first,) = front.process(block(80_000, noise(-20.0, 0.5), segment=1))
    (second,) = front.process(block(88_000, noise(-20.0, 0.5), segment=1))
    assert (first.index, second.index) == (10, 11)
    assert not first.context.any()
    assert np.array_equal(second.context, first.samples[-CONTEXT:])
    replayed = front.replay(11, CONTEXT)
    assert replayed is not None
    assert np.array_equal(replayed[CONTEXT:], second.samples)


def test_a_block_that_never_came_does_not_splice_its_neighbours() -> None:
    front = front_end()
    quiet = np.float32(0.1) * noise(-10.0, 0.5)
    front.process(block(0, noise(-10.0, 0.5)))
    (after,) = front.process(block(16_000, quiet))
    (alone,) = front_end().process(block(0, quiet))
    assert after.index == 2
    assert not after.context.any()
    assert np.array_equal(after.samples, alone.samples)


def test_a_segment_that_begins_inside_a_hop_keeps_the_grid() -> None:
    intake = Intake("leg", 11_025)
    front = front_end()
    samples = (3000 * np.sin(np.arange(11_025 * 4) / 3.0)).astype(np.int16)
    hops: list[Hop] = []
    for raw in intake.audio(Audio("leg", 0, samples, 0.0)):
        hops += front.process(raw)
    intake.segment(len(samples))
    for raw in intake.audio(Audio("leg", len(samples), samples, 0.0)):
        hops += front.process(raw)
    indices = [hop.index for hop in hops]
    assert indices == sorted(set(indices))
    first_of_new = next(hop for hop in hops if hop.segment == 1)
    assert first_of_new.index == hops[indices.index(first_of_new.index) - 1].index + 1
    assert len(hops) == 15


def test_masks_are_mapped_to_16_khz_and_delayed_like_the_samples() -> None:
    intake = Intake("leg", 8_000)
    front = front_end()
    samples = np.full(8_000, 3000, dtype=np.int16)
    blocks = intake.audio(Audio("leg", 0, samples[:2000], 0.0))
    blocks += intake.gap(Gap("leg", 2000, 2000, GapReason.LOST, 0.0))
    blocks += intake.audio(Audio("leg", 4000, samples[:4000], 0.0))
    hops = [hop for raw in blocks for hop in front.process(raw)]
    late = front.delay / 8000
    assert front.delay == 31 + 160
    assert hops[0].quality.lost_fraction == pytest.approx(0.5 - late)
    assert hops[1].quality.lost_fraction == pytest.approx(late)
    assert not hops[0].usable


def test_a_block_with_a_sample_that_is_no_number_is_as_good_as_lost() -> None:
    front = front_end()
    bad = noise(-20.0, 0.5)
    bad[17] = np.nan
    (first,) = front.process(block(0, bad))
    (second,) = front.process(block(8000, noise(-20.0, 0.5)))
    assert first.quality.lost_fraction > 0.9
    assert np.isfinite(first.samples).all()
    assert np.abs(second.samples).max() > 0.5
    assert np.isfinite(second.samples).all()


def test_absurdly_loud_floats_do_not_overflow() -> None:
    (hop,) = front_end().process(block(0, np.full(8000, 3e38, dtype=np.float32)))
    assert hop.quality.clipped_fraction == 1.0
    assert np.isfinite(hop.samples).all()


def test_dtx_is_neither_loss_nor_speech() -> None:
    front = front_end()
    spans = (MaskedSpan(0, 8000, Mask.DTX),)
    (hop,) = front.process(block(0, np.zeros(8000, dtype=np.float32), spans=spans))
    assert hop.quality.lost_fraction == 0.0
    assert hop.quality.level_dbfs == -120.0
    assert not hop.usable


def test_an_impossible_left_context_is_refused() -> None:
    with pytest.raises(ValueError, match="left_context 56001"):
        FrontEnd("leg", 56_001, GateSettings())


def test_a_telephone_rate_is_narrow_whatever_is_heard() -> None:
    tracker = ChannelTracker(8_000)
    for _ in range(10):
        tracker.add(-10.0)
    assert tracker.channel is Channel.NARROW


def test_a_wide_rate_is_narrow_once_speech_without_high_band_has_been_heard() -> None:
    tracker = ChannelTracker(48_000)
    heard = []
    for level_db in (-60.0, -60.0, -60.0, -60.0, -20.0, -20.0):
        tracker.add(level_db)
        heard.append(tracker.channel)
    assert heard == [Channel.WIDE] * 3 + [Channel.NARROW] + [Channel.WIDE] * 2


def test_recorded_speech_is_wide_and_its_telephone_copy_narrow() -> None:
    speech = recorded_speech()
    _, wide = listen(speech)
    assert wide.channel is Channel.WIDE
    spectrum = np.fft.rfft(speech)
    spectrum[np.fft.rfftfreq(len(speech), 1 / 16_000) > 3_600] = 0.0
    _, narrow = listen(np.fft.irfft(spectrum, len(speech)).astype(np.float32))
    assert narrow.channel is Channel.NARROW
