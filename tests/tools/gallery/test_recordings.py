"""What was heard once is heard again, bit for bit, and only as long as nothing changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamguard.audio.frontend import FrontEnd
from streamguard.audio.settings import GateSettings
from tests.tools.clips import speaking_collection
from tools.data import AudioCache, Clip, read_manifest
from tools.evaluation.lines import PLAIN, Line
from tools.gallery import recordings
from tools.gallery.recordings import Recordings
from tools.scoring import blocks


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[Clip, ...], AudioCache]:
    folder = speaking_collection(tmp_path_factory.mktemp("speech"))
    clips = read_manifest(folder / "manifest.csv")[:3]
    return clips, AudioCache.open(folder, folder / "cache", clips)


@pytest.mark.parametrize("line", PLAIN, ids=lambda line: line.name)
def test_a_recording_gives_what_the_front_end_gave(
    tmp_path: Path, collection: tuple[tuple[Clip, ...], AudioCache], line: Line
) -> None:
    clips, cache = collection
    played = Recordings.open(tmp_path, clips, cache, line)
    for number, clip in enumerate(clips):
        real = FrontEnd("clip", 240, GateSettings())
        leg = played.leg(clip.path, 240)
        heard = list(blocks(*line.carry(cache.samples(clip), number)))
        again = list(played.blocks(clip))
        assert len(heard) == len(again) == 7
        for block, dummy in zip(heard, again, strict=True):
            for expected, hop in zip(real.process(block), leg.process(dummy), strict=True):
                assert (hop.index, hop.usable) == (expected.index, expected.usable)
                assert hop.quality == expected.quality
                np.testing.assert_array_equal(hop.samples, expected.samples)
                for context in (0, 240, 20000):
                    wanted = real.replay(hop.index, context)
                    assert wanted is not None
                    np.testing.assert_array_equal(leg.replay(hop.index, context), wanted)
            assert leg.channel is real.channel
        assert leg.replay(99, 0) is None


def test_what_was_heard_is_not_heard_again_and_other_clips_are(
    tmp_path: Path,
    collection: tuple[tuple[Clip, ...], AudioCache],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clips, cache = collection
    Recordings.open(tmp_path, clips[:2], cache, PLAIN[0])

    def refuse(*_: object) -> None:
        raise AssertionError("heard again")

    with monkeypatch.context() as patch:
        patch.setattr(recordings, "_record", refuse)
        Recordings.open(tmp_path, clips[:2], cache, PLAIN[0])
        with pytest.raises(AssertionError, match="heard again"):
            Recordings.open(tmp_path, clips, cache, PLAIN[0])
        with pytest.raises(AssertionError, match="heard again"):
            Recordings.open(tmp_path, clips[:2], cache, PLAIN[1])
