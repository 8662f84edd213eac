"""Known prompts are found through a telephone line, and other speech is not taken for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from streamguard.audio.frontend import FrontEnd
from streamguard.audio.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw
from streamguard.audio.gate import hop_fault
from streamguard.audio.intake import Intake
from streamguard.audio.prompts import FRAMES, MAX_BOOK_S, PromptBook, PromptListener
from streamguard.audio.settings import GateSettings
from streamguard.clock import HOP_SAMPLES, SAMPLE_RATE_HZ
from streamguard.errors import AudioFileError
from streamguard.events import Audio
from streamguard.verdict.rejection import judge_window
from streamguard.verdict.scores import Rejection
from tests.audio.signals import noise, spoken

FloatArray = npt.NDArray[np.float32]

PROMPT = "Welcome. Your call may be recorded. Please hold the line, or press nine for a person."
OTHER = "Good morning, I would like to talk about the invoice that you sent me in the last week."


def at_16k(samples: FloatArray, rate_hz: int) -> FloatArray:
    return np.asarray(soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ), dtype=np.float32)


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> FloatArray:
    return at_16k(*spoken(PROMPT, tmp_path_factory.mktemp("prompt")))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> FloatArray:
    """The same voice, another text."""
    return at_16k(*spoken(OTHER, tmp_path_factory.mktemp("other")))


def through_a_line(samples: FloatArray, law: str = "ulaw", gain: float = 0.5) -> FloatArray:
    narrow = soxr.resample(gain * samples, SAMPLE_RATE_HZ, 8_000)
    pcm = np.clip(32_768 * narrow, -32_768, 32_767).astype(np.int16)
    coded = decode_ulaw(encode_ulaw(pcm)) if law == "ulaw" else decode_alaw(encode_alaw(pcm))
    return at_16k(coded.astype(np.float32) / np.float32(32_768), 8_000)


def found(book: PromptBook, samples: FloatArray) -> list[bool]:
    listener = PromptListener(book)
    return [
        listener.hear(samples[at : at + HOP_SAMPLES])
        for at in range(0, len(samples) - HOP_SAMPLES + 1, HOP_SAMPLES)
    ]


@pytest.mark.parametrize("shift", [0, 37, 4_001, 7_900])
@pytest.mark.parametrize(("law", "gain"), [("ulaw", 0.5), ("alaw", 0.05)])
def test_a_prompt_is_found_at_any_offset_level_and_law(
    prompt: FloatArray, shift: int, law: str, gain: float
) -> None:
    lead = np.zeros(shift, dtype=np.float32)
    heard = through_a_line(np.concatenate((lead, prompt)), law, gain)
    hops = found(PromptBook([prompt]), heard)
    # The first hop is not whole yet, nor is the last.
    assert all(hops[1:-1])


def test_what_is_said_before_and_after_a_prompt_is_not_masked(
    prompt: FloatArray, other: FloatArray
) -> None:
    heard = through_a_line(np.concatenate((other, prompt, other)))
    hops = found(PromptBook([prompt]), heard)
    begin, end = len(other) // HOP_SAMPLES, (len(other) + len(prompt)) // HOP_SAMPLES
    assert not any(hops[:begin])
    assert all(hops[begin + 1 : end])
    assert not any(hops[end + 1 :])


def test_other_words_of_the_same_voice_are_not_a_prompt(
    prompt: FloatArray, other: FloatArray
) -> None:
    assert not any(found(PromptBook([prompt]), through_a_line(other)))


def test_speech_over_a_prompt_is_not_masked(prompt: FloatArray, other: FloatArray) -> None:
    count = min(len(prompt), len(other))
    heard = through_a_line(0.1 * prompt[:count] + other[:count])
    assert not any(found(PromptBook([prompt]), heard))


def test_silence_and_noise_are_no_prompt(prompt: FloatArray) -> None:
    book = PromptBook([prompt])
    assert not any(found(book, np.zeros(SAMPLE_RATE_HZ * 4, dtype=np.float32)))
    assert not any(found(book, noise(-30.0, 4.0)))


def test_several_prompts_are_told_apart_and_each_is_found(
    prompt: FloatArray, other: FloatArray
) -> None:
    book = PromptBook([other, prompt])
    for clip in (prompt, other):
        assert all(found(book, through_a_line(clip))[1:-1])
    assert len(book.codes) % FRAMES == 0


def test_a_hop_costs_no_allocation_that_grows_with_the_book(prompt: FloatArray) -> None:
    book = PromptBook([prompt] * 8)
    codes = np.zeros((FRAMES, 8), dtype=np.uint32) + book.codes[100]
    assert len(book.places(codes)) <= 8


def test_a_window_of_a_prompt_abstains_and_says_so(prompt: FloatArray) -> None:
    settings = GateSettings()
    samples = through_a_line(prompt)
    intake = Intake("leg", SAMPLE_RATE_HZ)
    front = FrontEnd("leg", 240, settings, PromptBook([prompt]))
    blocks = intake.audio(Audio("leg", 0, samples, 0.0))
    hops = [hop for block in blocks for hop in front.process(block)]
    faults = [hop_fault(hop.quality, settings) for hop in hops]
    assert faults[1:-1] == [Rejection.ANNOUNCEMENT] * (len(hops) - 2)
    assert not any(hop.usable for hop in hops[1:-1])
    window = [hop.quality for hop in hops[1:7]]
    assert judge_window(window, settings) is Rejection.ANNOUNCEMENT


def test_prompts_are_read_from_files_of_any_rate(tmp_path: Path, prompt: FloatArray) -> None:
    path = tmp_path / "prompt.wav"
    soundfile.write(path, soxr.resample(prompt, SAMPLE_RATE_HZ, 44_100), 44_100)
    assert all(found(PromptBook.open([path]), through_a_line(prompt))[1:-1])


def test_a_prompt_that_is_no_audio_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "prompt.wav"
    path.write_text("hello")
    with pytest.raises(AudioFileError, match=r"prompt\.wav"):
        PromptBook.open([path])


def test_too_many_prompts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(round((MAX_BOOK_S / 2 + 1) * 1_000)), 1_000)
    with pytest.raises(AudioFileError, match="600 s"):
        PromptBook.open([path, path])


def test_an_empty_book_finds_nothing() -> None:
    assert not any(found(PromptBook([]), noise(-30.0, 1.0)))


@given(st.lists(st.floats(-8.0, 8.0, width=32), min_size=1, max_size=50), st.integers(0, 2**16))
def test_any_samples_are_heard_without_an_error(values: list[float], seed: int) -> None:
    order = np.random.default_rng(seed).integers(0, len(values), HOP_SAMPLES)
    samples = np.array(values, dtype=np.float32)[order]
    listener = PromptListener(PromptBook([samples]))
    assert listener.hear(samples) in (True, False)
