"""The monitor: events of legs become blocks, results become verdicts, ends are told once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from streamguard.alerts.context import (
    DecisionRule,
    EngineFacts,
    LatencySnapshot,
    LegContext,
    ModelFacts,
    QualitySnapshot,
)
from streamguard.audio.frames import HopQuality, Mask, RawBlock
from streamguard.clock import LegClock, VirtualClock
from streamguard.events import (
    Answered,
    Audio,
    CallEnded,
    CallStarted,
    EndReason,
    Gap,
    GapReason,
    Hold,
    Identity,
    IdentityKind,
    LegEnded,
    LegRole,
    LegStarted,
    LegUpdated,
    MediaChanged,
    Quality,
    Resume,
    SourceDown,
    SourceUp,
    Tone,
)
from streamguard.inference.leg import HopKind
from streamguard.inference.scorer import HopResult
from streamguard.monitor import Leg, Monitor
from streamguard.policy import Exclusion, Policy, PolicySettings, identity_tag
from streamguard.verdict.calibration import ChannelCalibration, LegModel, LlrAffine
from streamguard.verdict.scores import (
    Attribution,
    Channel,
    Label,
    State,
    Verdict,
    WindowScore,
)
from streamguard.verdict.settings import VerdictSettings
from streamguard.verdict.voter import Voter

CALIBRATION = ChannelCalibration(
    llr=LlrAffine(1.0, 0.0), leg=LegModel(-2.0, 2.0, 0.7, 1.0, correlation_hops=2.0)
)
HEARD = HopQuality(-26.0, 0.9, 0.0, 0.0, 0.0, 0.0, None, 45)


class FakeInference:
    """Says that it is one: keeps the blocks, scores nothing."""

    def __init__(self) -> None:
        self.blocks: list[RawBlock] = []
        self.waited: list[RawBlock] = []
        self.closed: list[str] = []
        self.may_close = asyncio.Event()
        self.may_close.set()

    async def submit(self, block: RawBlock) -> None:
        self.waited.append(block)

    def submit_nowait(self, block: RawBlock) -> None:
        self.blocks.append(block)

    async def close_leg(self, leg: str) -> None:
        await self.may_close.wait()
        self.closed.append(leg)


class Record:
    """Sink and observer that write everything down."""

    def __init__(self) -> None:
        self.verdicts: list[tuple[LegContext, Verdict, QualitySnapshot]] = []
        self.ended: list[tuple[str, EndReason]] = []
        self.up: dict[str, bool] = {}
        self.active: dict[str, int] = {}
        self.lost_s = 0.0
        self.results: list[HopResult] = []

    async def verdict(
        self,
        context: LegContext,
        verdict: Verdict,
        quality: QualitySnapshot,
        latency: LatencySnapshot,
    ) -> None:
        self.verdicts.append((context, verdict, quality))

    async def leg_ended(self, leg: str, reason: EndReason) -> None:
        self.ended.append((leg, reason))

    def source(self, name: str, *, up: bool, reason: str) -> None:
        self.up[name] = up

    def calls(self, source: str, active: int) -> None:
        self.active[source] = active

    def audio(self, source: str, utc: float) -> None:
        pass

    def finished(self, leg: Leg) -> None:
        """Told to the metrics; see tests/test_observe.py."""

    def lost(self, source: str, seconds: float) -> None:
        self.lost_s += seconds

    def result(self, leg: Leg, result: HopResult, latency_s: float) -> None:
        self.results.append(result)


class House:
    """A monitor with its fakes."""

    def __init__(self) -> None:
        self.inference = FakeInference()
        self.record = Record()
        self.clock = VirtualClock(start_utc=1_000_000.0)
        self.monitor = Monitor(
            inference=self.inference,
            sink=self.record,
            clock=self.clock,
            make_voter=make_voter,
            make_context=make_context,
            observer=self.record,
        )

    async def settle(self) -> None:
        """Ends of live legs are told by tasks of their own."""
        for _ in range(5):
            await asyncio.sleep(0)

    async def start_leg(
        self,
        name: str = "leg",
        role: LegRole = LegRole.CALLER,
        *,
        identities: tuple[Identity, ...] = (),
        answered: bool = True,
    ) -> None:
        await self.monitor.emit(CallStarted("trunk", "call", 0.0))
        started = LegStarted("trunk", "call", name, role, "PCMU", 8000, 0.0)
        await self.monitor.emit(replace(started, identities=identities, answered=answered))

    async def talk(self, seconds: float, first: int = 0, leg: str = "leg") -> None:
        samples = np.ones(160, np.int16)
        for k in range(round(seconds * 50)):
            await self.monitor.emit(Audio(leg, first + 160 * k, samples, 0.02 * (k + 1)))

    async def windows(self, llr: float, count: int, first: int = 5, leg: str = "leg") -> None:
        for index in range(first, first + count):
            score = WindowScore(
                leg=leg,
                segment=0,
                index=index,
                start_s=(index - 5) / 2,
                end_s=(index + 1) / 2,
                raw=llr,
                llr=llr,
                rejected=None,
                new_hops=6 if index == first else 1,
                usable_hops=6,
                net_speech_s=0.5,
                channel=Channel.NARROW,
            )
            await self.monitor.on_result(HopResult(leg, 0, index, HEARD, score))


def make_voter(started: LegStarted) -> Voter:
    calibrations = {Channel.NARROW: CALIBRATION}
    mixed = started.role is LegRole.MIXED
    return Voter(VerdictSettings(), calibrations, 0.01, mixed, started.leg)


def make_context(started: LegStarted, clock: LegClock) -> LegContext:
    return LegContext(
        node="test",
        source=started.source,
        call=started.call,
        leg=started.leg,
        leg_index=started.index,
        role=started.role,
        codec=started.codec,
        clock=clock,
        detector=ModelFacts("tiny", "0", "0" * 64),
        engine=EngineFacts("test", "test", "fp32"),
        rule=DecisionRule("sequential", {}),
    )


@pytest.fixture
def house() -> House:
    return House()


async def test_half_a_second_of_audio_becomes_one_block(house: House) -> None:
    await house.start_leg()
    await house.talk(0.5)
    (block,) = house.inference.blocks
    assert (block.leg, block.first_sample, len(block.samples)) == ("leg", 0, 4000)


async def test_live_audio_never_waits_and_a_replay_does(house: House) -> None:
    await house.monitor.emit(CallStarted("f", "call", 0.0), live=False)
    started = LegStarted("f", "call", "leg", LegRole.UNKNOWN, "file", 8000, 0.0)
    await house.monitor.emit(started, live=False)
    await house.talk(0.5)
    assert len(house.inference.waited) == 1
    assert house.inference.blocks == []


async def test_a_slow_end_of_one_leg_does_not_hold_the_audio_of_another(house: House) -> None:
    await house.start_leg("a")
    await house.start_leg("b")
    house.inference.may_close.clear()
    await house.monitor.emit(LegEnded("a", EndReason.HANGUP, 1.0))
    await house.talk(0.5, leg="b")
    assert [block.leg for block in house.inference.blocks] == ["b"]
    house.inference.may_close.set()
    await house.settle()
    assert house.record.ended == [("a", EndReason.HANGUP)]


async def test_the_end_of_a_leg_is_told_although_its_source_is_cancelled(house: House) -> None:
    await house.start_leg()
    house.inference.may_close.clear()
    source = asyncio.create_task(house.monitor.end_source("trunk", EndReason.SHUTDOWN))
    await house.settle()
    source.cancel()
    await asyncio.gather(source, return_exceptions=True)
    house.inference.may_close.set()
    await house.monitor.end_source("trunk", EndReason.SHUTDOWN)
    assert house.record.ended == [("leg", EndReason.SHUTDOWN)]
    assert [leg.ended for leg in house.monitor.legs()] == [EndReason.SHUTDOWN]


async def test_ends_that_cannot_be_told_are_given_up(house: House) -> None:
    await house.start_leg()
    house.inference.may_close.clear()
    await house.monitor.emit(LegEnded("leg", EndReason.HANGUP, 1.0))
    await house.monitor.abandon()
    assert house.record.ended == []


async def test_a_role_learnt_in_mid_call_outlives_new_models(house: House) -> None:
    await house.start_leg()
    await house.monitor.emit(LegUpdated("leg", LegRole.MIXED))
    house.monitor.judge_anew(make_voter, make_context)
    (leg,) = house.monitor.legs()
    assert leg.voter.role_mixed
    assert leg.context.role is LegRole.MIXED


async def test_a_hole_that_only_the_intake_sees_is_lost_audio_too(house: House) -> None:
    await house.start_leg()
    await house.talk(0.2)
    await house.talk(0.3, first=3200)
    await house.monitor.emit(LegEnded("leg", EndReason.HANGUP, 1.0), live=False)
    assert house.record.lost_s == pytest.approx(0.2)


async def test_a_gap_keeps_the_grid_and_is_counted_in_seconds(house: House) -> None:
    await house.start_leg()
    await house.talk(0.2)
    await house.monitor.emit(Gap("leg", 1600, 800, GapReason.LOST, 0.3))
    await house.monitor.emit(Tone("leg", 2400, 160, "dtmf-1", 0.32))
    await house.talk(0.2, first=2400)
    (block,) = house.inference.blocks
    masks = {span.mask for span in block.spans}
    assert masks == {Mask.LOST, Mask.TONE}
    await house.monitor.end_all(EndReason.SHUTDOWN)
    assert house.record.lost_s == pytest.approx(0.1)


async def test_silence_that_the_sender_announced_is_not_lost_audio(house: House) -> None:
    await house.start_leg()
    await house.monitor.emit(Gap("leg", 0, 800, GapReason.DTX, 0.1))
    await house.monitor.end_all(EndReason.SHUTDOWN)
    assert house.record.lost_s == 0.0


async def test_no_sample_is_said_to_be_spoken_after_it_came(house: House) -> None:
    """Sample 0 is spoken at 0; a packet of 20 ms is there after its 20 ms and the network's."""
    delays_s = [0.08, *(0.005 + np.random.default_rng(1).exponential(0.02, 50))]
    arrivals = [0.02 * (k + 1) + delay_s for k, delay_s in enumerate(delays_s)]
    started = LegStarted("trunk", "call", "leg", LegRole.CALLER, "PCMU", 8000, arrivals[0])
    await house.monitor.emit(started)
    for k, came_at in enumerate(arrivals):
        await house.monitor.emit(Audio("leg", 160 * k, np.ones(160, np.int16), came_at))
        (leg,) = house.monitor.legs()
        last_utc = leg.context.clock.utc_at(320 * (k + 1) / 16_000)
        assert last_utc <= 1_000_000.0 + came_at + 1e-6
    # Nobody can know by how much even the fastest packet was late.
    assert leg.context.clock.start_utc == pytest.approx(1_000_000.0 + min(delays_s))


async def test_a_leg_that_begins_late_in_its_first_packet_begins_before_it(house: House) -> None:
    await house.monitor.emit(CallStarted("trunk", "call", 5.0))
    started = LegStarted("trunk", "call", "leg", LegRole.CALLER, "PCMU", 8000, 5.0)
    await house.monitor.emit(started)
    await house.monitor.emit(Audio("leg", 0, np.ones(160, np.int16), 5.0))
    await house.monitor.emit(Gap("leg", 160, 160, GapReason.DTX, 5.05))
    await house.monitor.emit(Audio("leg", 320, np.ones(160, np.int16), 5.05))
    (leg,) = house.monitor.legs()
    assert leg.context.clock.start_utc == pytest.approx(1_000_004.98)
    house.monitor.judge_anew(make_voter, make_context)
    assert leg.context.clock.start_utc == pytest.approx(1_000_004.98)


async def test_a_source_that_knows_the_hour_of_its_recording_keeps_it(house: House) -> None:
    started = LegStarted(
        "f", "call", "leg", LegRole.UNKNOWN, "file", 8000, 0.0, started_utc=900_000.0
    )
    await house.monitor.emit(started, live=False)
    # Read faster than it was spoken.
    await house.monitor.emit(Audio("leg", 0, np.ones(4000, np.int16), 0.0), live=False)
    (leg,) = house.monitor.legs()
    assert leg.context.clock.start_utc == 900_000.0


async def test_windows_that_speak_for_spoof_reach_the_sink_with_the_reception(house: House) -> None:
    await house.start_leg()
    await house.monitor.emit(Quality("leg", loss_pct=1.5, jitter_ms=3.0))
    await house.windows(6.0, 20)
    context, verdict, quality = house.record.verdicts[-1]
    assert verdict.state is State.SPOOF
    assert context.clock.start_utc == 1_000_000.0
    assert (quality.loss_pct, quality.jitter_ms, quality.level_dbfs) == (1.5, 3.0, -26.0)


async def test_an_attribution_that_comes_late_reaches_the_verdict(house: House) -> None:
    await house.start_leg()
    await house.windows(6.0, 20)
    late = Attribution(Label("tts", 0.4), Label("vits", 0.3))
    await house.monitor.on_result(HopResult("leg", 0, 24, None, None, late=late, kind=HopKind.LATE))
    assert house.record.verdicts[-1][1].attribution.technology == Label("tts", 0.8)


async def test_the_end_of_a_leg_closes_inference_before_the_sink_is_told(house: House) -> None:
    await house.start_leg()
    await house.talk(0.5)
    await house.monitor.emit(LegEnded("leg", EndReason.HANGUP, 1.0))
    await house.settle()
    assert house.inference.closed == ["leg"]
    assert house.record.ended == [("leg", EndReason.HANGUP)]
    await house.monitor.emit(CallEnded("call", EndReason.HANGUP, 1.0))
    assert house.record.active == {"trunk": 0}
    assert len(house.record.ended) == 1


async def test_the_end_of_a_call_ends_its_legs(house: House) -> None:
    await house.start_leg("a")
    await house.start_leg("b")
    await house.monitor.emit(CallEnded("call", EndReason.INACTIVITY, 1.0))
    await house.settle()
    assert sorted(house.record.ended) == [
        ("a", EndReason.INACTIVITY),
        ("b", EndReason.INACTIVITY),
    ]


async def test_a_source_that_dies_takes_its_legs_along_as_lost(house: House) -> None:
    await house.monitor.emit(SourceUp("trunk"))
    await house.start_leg()
    await house.monitor.emit(SourceDown("trunk", "unplugged"))
    assert house.record.up == {"trunk": False}
    assert house.record.ended == [("leg", EndReason.SOURCE_LOST)]
    assert house.record.active == {"trunk": 0}


async def test_events_of_an_unknown_leg_are_counted_and_do_no_harm(house: House) -> None:
    await house.talk(0.02, leg="ghost")
    await house.monitor.on_result(HopResult("ghost", 0, 0, HEARD, None))
    assert house.monitor.stray == {"Audio": 1, "HopResult": 1}


async def test_what_the_source_learns_of_a_leg_reaches_its_context(house: House) -> None:
    await house.start_leg()
    await house.monitor.emit(LegUpdated("leg", LegRole.CALLEE))
    await house.windows(6.0, 1)
    assert house.record.verdicts[-1][0].role is LegRole.CALLEE


async def test_new_models_begin_with_new_voters_and_unbroken_audio(house: House) -> None:
    await house.start_leg()
    await house.talk(0.2)
    await house.windows(6.0, 20)
    house.monitor.judge_anew(make_voter, make_context)
    (leg,) = house.monitor.legs()
    assert leg.verdict.state is State.UNKNOWN
    await house.talk(0.3, first=1600)
    assert len(house.inference.blocks) == 1
    await house.windows(-6.0, 20, first=30)
    assert house.record.verdicts[-1][1].state is State.BONAFIDE


async def test_ended_legs_stay_visible_in_bounded_number(house: House) -> None:
    for number in range(100):
        await house.start_leg(f"leg{number}")
        await house.monitor.emit(LegEnded(f"leg{number}", EndReason.HANGUP, 1.0), live=False)
    assert len(house.monitor.legs()) == 64
    assert all(leg.ended is EndReason.HANGUP for leg in house.monitor.legs())


def at_work(block: RawBlock) -> bool:
    """Whether anything of a block may be heard."""
    return not any(span.mask & Mask.HOLD for span in block.spans)


@pytest.mark.parametrize("role", [LegRole.CALLEE, LegRole.MIXED])
async def test_a_leg_of_a_role_that_is_not_monitored_is_counted_and_not_heard(
    house: House, role: LegRole
) -> None:
    house.monitor.policy = Policy(PolicySettings(roles=(LegRole.CALLER,)))
    await house.start_leg(role=role)
    await house.talk(3.0)
    (leg,) = house.monitor.legs()
    assert leg.excluded is Exclusion.ROLE
    assert house.inference.blocks == []
    await house.monitor.emit(LegEnded("leg", EndReason.HANGUP, 3.0))
    await house.settle()
    assert house.record.ended == [("leg", EndReason.HANGUP)]


async def test_a_leg_whose_role_is_learnt_late_is_heard_from_then_on(house: House) -> None:
    house.monitor.policy = Policy(PolicySettings(roles=(LegRole.CALLER,)))
    await house.start_leg(role=LegRole.UNKNOWN)
    await house.talk(3.0)
    await house.monitor.emit(LegUpdated("leg", LegRole.CALLER))
    await house.talk(1.0, first=24_000)
    assert [block.first_sample for block in house.inference.blocks] == [24_000, 28_000]


async def test_time_goes_on_while_a_leg_is_not_monitored(house: House) -> None:
    house.monitor.policy = Policy(PolicySettings(roles=(LegRole.CALLER,)))
    await house.start_leg(role=LegRole.CALLER)
    await house.talk(1.0)
    await house.monitor.emit(LegUpdated("leg", LegRole.CALLEE))
    await house.talk(1.0, first=8_000)
    await house.monitor.emit(MediaChanged("leg", "PCMA", 8_000))
    await house.talk(1.0, first=16_000)
    await house.monitor.emit(LegUpdated("leg", LegRole.CALLER))
    await house.talk(0.5, first=24_000)
    assert [block.first_sample for block in house.inference.blocks] == [0, 4_000, 24_000]
    assert at_work(house.inference.blocks[-1])
    (leg,) = house.monitor.legs()
    assert leg.intake.lost_samples == 0


async def test_an_allowed_party_is_not_heard_whatever_its_role_and_its_number_is_forgotten(
    house: House,
) -> None:
    key, ivr = b"a key of the operator", Identity(IdentityKind.NUMBER, "+4930123")
    settings = PolicySettings.model_validate(
        {"identity_key": {"env": "X"}, "allow": [identity_tag(key, ivr)]}
    )
    house.monitor.policy = Policy(settings, key)
    await house.start_leg(identities=(ivr,))
    await house.monitor.emit(LegUpdated("leg", LegRole.CALLEE))
    await house.talk(3.0)
    (leg,) = house.monitor.legs()
    assert (leg.excluded, leg.started.identities) == (Exclusion.ALLOWED, ())
    assert house.inference.blocks == []


@pytest.mark.parametrize("early_media", ["exclude", "monitor"])
async def test_early_media_is_masked_until_the_answer(house: House, early_media: str) -> None:
    house.monitor.policy = Policy(PolicySettings.model_validate({"early_media": early_media}))
    await house.start_leg(answered=False)
    await house.talk(1.0)
    await house.monitor.emit(Answered("leg"))
    await house.talk(1.0, first=8_000)
    heard = early_media == "monitor"
    assert [at_work(block) for block in house.inference.blocks] == [heard, heard, True, True]


async def test_an_answer_does_not_end_a_hold_nor_a_resume_the_ringing(house: House) -> None:
    await house.start_leg(answered=False)
    await house.monitor.emit(Hold("leg"))
    await house.monitor.emit(Answered("leg"))
    await house.talk(0.5)
    await house.monitor.emit(Resume("leg"))
    await house.talk(0.5, first=4_000)
    assert [at_work(block) for block in house.inference.blocks] == [False, True]
