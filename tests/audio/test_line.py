"""The codec of a leg decides its channel class where it leaves less of speech than its band."""

from __future__ import annotations

import numpy as np
import pytest

from streamguard.audio.frontend import FrontEnd
from streamguard.audio.intake import Intake
from streamguard.audio.line import channel_of
from streamguard.audio.settings import GateSettings
from streamguard.events import Audio
from streamguard.verdict.scores import Channel

HOP = np.zeros(4000, np.int16)


@pytest.mark.parametrize("codec", ["GSM", "gsm/8000", "AMR", "AMR-WB", "speex/16000", "G729"])
@pytest.mark.parametrize("heard", [Channel.WIDE, Channel.NARROW])
def test_a_codec_of_a_few_kbit_is_low_rate_whatever_is_heard(codec: str, heard: Channel) -> None:
    assert channel_of(codec, heard) is Channel.LOW_RATE


@pytest.mark.parametrize("codec", ["PCMU", "PCMA", "G722", "L16", "G726-32", "file", "mic", ""])
@pytest.mark.parametrize("heard", [Channel.WIDE, Channel.NARROW])
def test_any_other_codec_is_as_heard(codec: str, heard: Channel) -> None:
    assert channel_of(codec, heard) is heard


@pytest.mark.parametrize("codec", ["opus/48000/2", "EVS"])
def test_a_codec_of_any_rate_is_low_rate_once_it_has_given_up_the_upper_band(codec: str) -> None:
    assert channel_of(codec, Channel.NARROW) is Channel.LOW_RATE
    assert channel_of(codec, Channel.WIDE) is Channel.WIDE


def test_a_leg_takes_the_class_of_its_codec_and_of_the_next_one() -> None:
    intake = Intake("leg", 8000, "GSM")
    front_end = FrontEnd("leg", 0, GateSettings())
    heard = []
    blocks = intake.audio(Audio("leg", 0, HOP, 0.0))
    intake.media_changed(8000, "PCMU")
    for block in [*blocks, *intake.audio(Audio("leg", 4000, HOP, 0.5))]:
        front_end.process(block)
        heard.append(front_end.channel)
    assert heard == [Channel.LOW_RATE, Channel.NARROW]
