"""What the gate hears."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streamguard.audio.frames import HopQuality
from streamguard.audio.frontend import FrontEnd
from streamguard.audio.gate import hop_fault
from streamguard.audio.intake import Intake
from streamguard.audio.settings import GateSettings
from streamguard.events import Audio, Gap, GapReason, Tone
from streamguard.verdict.scores import Rejection

from .signals import hold_music, lines, listen, noise, recorded_speech, seconds, spoken

if TYPE_CHECKING:
    import numpy.typing as npt

SETTINGS = GateSettings()


def faults(samples: npt.NDArray[np.float32], rate_hz: int = 16_000) -> list[Rejection | None]:
    hops, _ = listen(samples, rate_hz)
    assert all(hop.usable == (hop_fault(hop.quality, SETTINGS) is None) for hop in hops)
    return [hop_fault(hop.quality, SETTINGS) for hop in hops]


def test_digital_silence_is_silence() -> None:
    hops, _ = listen(np.zeros(48_000, dtype=np.float32))
    assert {hop.quality.level_dbfs for hop in hops} == {-120.0}
    assert {hop.quality.speech_fraction for hop in hops} == {0.0}
    assert {hop.quality.highband_db for hop in hops} == {None}
    assert set(faults(np.zeros(48_000, dtype=np.float32))) == {Rejection.SILENCE}


@pytest.mark.parametrize("level_dbfs", [-60.0, -52.0])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000])
def test_comfort_noise_is_silence(level_dbfs: float, rate_hz: int) -> None:
    assert set(faults(noise(level_dbfs, 5.0, rate_hz), rate_hz)) == {Rejection.SILENCE}


def test_loud_noise_is_no_speech_and_no_music() -> None:
    assert set(faults(noise(-25.0, 8.0))) == {Rejection.NON_SPEECH}


@pytest.mark.parametrize("rate_hz", [8_000, 16_000])
@pytest.mark.parametrize("pair_hz", [(697.0, 1209.0), (770.0, 1336.0), (941.0, 1633.0)])
def test_dialled_digits_are_tones(pair_hz: tuple[float, float], rate_hz: int) -> None:
    keyed = lines(pair_hz, 4.0, rate_hz) * (seconds(4.0, rate_hz) % 0.2 < 0.1)
    assert set(faults(keyed.astype(np.float32), rate_hz)) == {Rejection.TONE}


@pytest.mark.parametrize(
    "frequencies_hz",
    [(425.0,), (440.0, 480.0), (350.0, 440.0), (480.0, 620.0)],
    ids=["europe", "us-ringback", "us-dial", "us-busy"],
)
@pytest.mark.parametrize("rate_hz", [8_000, 16_000])
def test_call_progress_tones_are_tones(frequencies_hz: tuple[float, ...], rate_hz: int) -> None:
    assert set(faults(lines(frequencies_hz, 3.0, rate_hz), rate_hz)) == {Rejection.TONE}


def test_ringback_is_tone_while_it_sounds_and_silence_in_between() -> None:
    ringing = lines((440.0, 480.0), 12.0) * (seconds(12.0) % 6.0 < 2.0)
    heard = faults(ringing.astype(np.float32))
    assert set(heard[0:4]) == {Rejection.TONE}
    assert set(heard[5:12]) == {Rejection.SILENCE}
    assert set(heard[12:16]) == {Rejection.TONE}


def test_special_information_tones_are_tones() -> None:
    time = seconds(3.0)
    frequency = np.select([time % 1 < 0.33, time % 1 < 0.66], [950.0, 1400.0], 1800.0)
    signal = 0.2 * np.sin(2.0 * np.pi * frequency * time)
    assert set(faults(signal.astype(np.float32))) == {Rejection.TONE}


def test_hold_music_is_music_once_three_seconds_have_been_heard() -> None:
    heard = faults(hold_music(10.0))
    assert set(heard[5:]) == {Rejection.MUSIC}


def test_recorded_speech_is_speech() -> None:
    hops, _ = listen(recorded_speech())
    usable = [hop for hop in hops if hop.usable]
    assert len(usable) >= 0.8 * len(hops)
    assert {hop_fault(hop.quality, SETTINGS) for hop in hops} <= {None, Rejection.NON_SPEECH}


def test_synthetic_speech_is_speech_too(tmp_path: Path) -> None:
    text = "The gate must not judge the voice, only whether there is one to be judged."
    samples, rate_hz = spoken(text, tmp_path)
    heard = faults(samples, rate_hz)
    assert heard.count(None) >= 0.8 * len(heard)


@pytest.mark.parametrize(("snr_db", "least_share"), [(20.0, 0.85), (10.0, 0.6)])
def test_speech_in_noise_is_still_speech(snr_db: float, least_share: float) -> None:
    speech = recorded_speech()
    level_dbfs = 10.0 * np.log10(np.mean(speech**2)) - snr_db
    heard = faults(speech + noise(level_dbfs, len(speech) / 16_000))
    assert heard.count(None) >= least_share * len(heard)


def test_speech_at_telephone_level_and_rate_is_speech() -> None:
    speech = recorded_speech()
    quiet = speech * np.float32(10.0 ** (-20.0 / 20.0))
    heard = faults(quiet[::2].copy(), 8_000)
    assert heard.count(None) >= 0.8 * len(heard)


def test_clipped_speech_is_clipped() -> None:
    speech = recorded_speech()
    clipped = np.clip(speech * np.float32(12.0), -1.0, 1.0)
    heard = faults(clipped)
    assert heard.count(Rejection.CLIPPED) >= 0.8 * len(heard)
    assert Rejection.CLIPPED not in faults(speech)


def test_speech_with_lost_packets_is_packet_loss_and_the_rest_stays() -> None:
    speech = recorded_speech()[:64_000]
    intake = Intake("leg", 16_000)
    front = FrontEnd("leg", 240, SETTINGS)
    blocks = []
    for first in range(0, len(speech), 320):
        if 16_000 <= first < 32_000 and first // 320 % 3 == 0:
            blocks += intake.gap(Gap("leg", first, 320, GapReason.LOST, 0.0))
        else:
            blocks += intake.audio(Audio("leg", first, speech[first : first + 320], 0.0))
    hops = [hop for raw in blocks for hop in front.process(raw)]
    heard = [hop_fault(hop.quality, SETTINGS) for hop in hops]
    assert [k for k, fault in enumerate(heard) if fault is Rejection.PACKET_LOSS] == [2, 3]
    assert hops[2].quality.lost_fraction == pytest.approx(1 / 3, abs=0.03)


def test_a_signalled_tone_is_a_tone_and_no_loss_even_where_packets_are_missing() -> None:
    intake = Intake("leg", 8_000)
    front = FrontEnd("leg", 240, SETTINGS)
    blocks = intake.audio(Audio("leg", 0, np.full(1000, 50, dtype=np.int16), 0.0))
    blocks += intake.tone(Tone("leg", 1000, 1600, "dtmf-1", 0.0))
    blocks += intake.audio(Audio("leg", 2600, np.full(5400, 50, dtype=np.int16), 0.0))
    hops = [hop for raw in blocks for hop in front.process(raw)]
    assert hops[0].quality.tone_fraction == pytest.approx(0.4, abs=0.01)
    assert hops[0].quality.lost_fraction == 0.0
    assert hop_fault(hops[0].quality, SETTINGS) is Rejection.TONE


def quality(**measured: float) -> HopQuality:
    values: dict[str, Any] = {
        "level_dbfs": -25.0,
        "speech_fraction": 0.6,
        "clipped_fraction": 0.0,
        "lost_fraction": 0.0,
        "tone_fraction": 0.0,
        "music_likelihood": 0.0,
    }
    values |= measured
    return HopQuality(
        **values, highband_db=-30.0, active_frames=round(50 * values["speech_fraction"])
    )


@pytest.mark.parametrize(
    ("measured", "fault"),
    [
        ({}, None),
        ({"lost_fraction": 0.3, "tone_fraction": 0.5}, Rejection.PACKET_LOSS),
        ({"tone_fraction": 0.5, "clipped_fraction": 0.5}, Rejection.TONE),
        ({"clipped_fraction": 0.5, "music_likelihood": 1.0}, Rejection.CLIPPED),
        ({"speech_fraction": 0.0, "level_dbfs": -70.0, "music_likelihood": 1.0}, Rejection.SILENCE),
        ({"music_likelihood": 1.0}, Rejection.MUSIC),
        ({"speech_fraction": 0.0}, Rejection.NON_SPEECH),
        ({"level_dbfs": -52.0}, None),
    ],
)
def test_the_gravest_fault_of_a_hop_is_named(
    measured: dict[str, float], fault: Rejection | None
) -> None:
    assert hop_fault(quality(**measured), SETTINGS) is fault


def test_speech_after_a_signal_tone_is_not_taken_for_music() -> None:
    ringing = lines((440.0, 480.0), 3.0)
    hops, _ = listen(np.concatenate((ringing, recorded_speech()[:96_000])))
    spoken = hops[7:]
    assert max(hop.quality.music_likelihood for hop in spoken) < 0.5
    assert sum(hop.usable for hop in spoken) >= 10
