"""What the daemon's front end makes of clips, kept: every bundle of a table hears the same hops.

The front end (resampling, level, gate) costs as much as a small network and does not depend on the
bundle. A recording plays its hops back to the daemon's own scorers, bit for bit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamguard import audio
from streamguard.audio.frames import Hop, HopQuality, RawBlock
from streamguard.audio.frontend import FrontEnd
from streamguard.audio.settings import GateSettings
from streamguard.clock import HOP_SAMPLES, SAMPLE_RATE_HZ
from streamguard.verdict.scores import Channel
from tools import scoring
from tools.data import AudioCache, Clip
from tools.evaluation import lines
from tools.evaluation.lines import Line
from tools.progress import track

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

_SILENCE = np.zeros(HOP_SAMPLES, np.int16)
_SILENCE.flags.writeable = False
_NO_CONTEXT = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class _Heard:
    """What one block of a leg gave."""

    qualities: tuple[HopQuality, ...]
    """Of its hops; usually one."""
    usable: tuple[bool, ...]
    channel: Channel
    """Of the leg, behind it."""


class RecordedLeg:
    """A ``FrontEndLike`` that says again what the front end said of one clip."""

    def __init__(self, leg: str, heard: Sequence[_Heard], samples: FloatArray) -> None:
        """``samples``: ``[hops, 8000]``, as the front end normalised them."""
        self._leg = leg
        self._heard = heard
        self._samples = samples
        self._next = 0
        self._index = 0

    @property
    def channel(self) -> Channel:
        return self._heard[self._next - 1].channel

    def process(self, block: RawBlock) -> list[Hop]:
        """The hops of the next block; what is in ``block`` does not matter."""
        heard = self._heard[self._next]
        self._next += 1
        hops = []
        for quality, usable in zip(heard.qualities, heard.usable, strict=True):
            hops.append(
                Hop(
                    leg=self._leg,
                    segment=block.segment,
                    index=self._index,
                    context=_NO_CONTEXT,  # the scorer asks for what is missing by ``replay``
                    samples=self._samples[self._index],
                    quality=quality,
                    usable=usable,
                    received_at=block.received_at,
                )
            )
            self._index += 1
        return hops

    def replay(self, index: int, left_context: int) -> FloatArray | None:
        """``[left_context + 8000]``, zeros before the start; None if the hop is not there yet."""
        if index >= self._index:
            return None
        stop = (index + 1) * HOP_SAMPLES
        start = stop - HOP_SAMPLES - left_context
        whole = self._samples.reshape(-1)[max(0, start) : stop]
        return np.concatenate((np.zeros(max(0, -start), np.float32), whole))


class Recordings:
    """All clips over one line. Read-only after creation."""

    def __init__(
        self, heard: Mapping[str, tuple[int, tuple[_Heard, ...]]], samples: FloatArray
    ) -> None:
        """``heard``: first hop and blocks by path of the clip; ``samples``: ``[hops, 8000]``."""
        self._heard = heard
        self._samples = samples

    def leg(self, leg: str, left_context: int = 0) -> RecordedLeg:
        """The front end of a clip, which is named by its path."""
        del left_context  # the scorer asks for it by ``replay``
        first, heard = self._heard[leg]
        count = sum(len(block.qualities) for block in heard)
        return RecordedLeg(leg, heard, self._samples[first : first + count])

    def blocks(self, clip: Clip) -> Iterator[RawBlock]:
        """As many blocks as the clip had; their samples are with the leg."""
        for number in range(len(self._heard[clip.path][1])):
            first = number * HOP_SAMPLES
            yield RawBlock(clip.path, 0, first, _SILENCE, SAMPLE_RATE_HZ, (), 0.0)

    @classmethod
    def open(cls, folder: Path, clips: Sequence[Clip], cache: AudioCache, line: Line) -> Recordings:
        """Those of ``folder``, made first if these clips were not heard by this front end yet."""
        stem = folder / f"hops-{line.name.replace(' ', '_')}-{_key(clips, line)}"
        audio_file, index = stem.with_suffix(".f32"), stem.with_suffix(".json")
        if not index.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _record(clips, cache, line, audio_file, index)
        content = json.loads(index.read_text(encoding="utf-8"))
        heard = {
            path: (first, tuple(_from_json(block) for block in blocks))
            for path, first, blocks in content
        }
        if not audio_file.stat().st_size:
            return cls(heard, np.zeros((0, HOP_SAMPLES), np.float32))
        samples = np.memmap(audio_file, np.float32, "r").reshape(-1, HOP_SAMPLES)
        return cls(heard, samples)


def _record(
    clips: Sequence[Clip], cache: AudioCache, line: Line, audio_file: Path, index: Path
) -> None:
    content = []
    first = 0
    temporary = audio_file.with_suffix(".tmp")
    with temporary.open("wb") as stream:
        for number, clip in enumerate(track(clips, f"hearing, {line.name}", len(clips))):
            samples, rate_hz, lost, codec = line.carry(cache.samples(clip), number)
            front_end = FrontEnd(clip.path, 0, GateSettings())
            heard = []
            count = 0
            for block in scoring.blocks(samples, rate_hz, lost, codec):
                hops = front_end.process(block)
                if any(hop.segment or hop.index != count + i for i, hop in enumerate(hops)):
                    raise ValueError(f"{clip.path}: a recorded clip is one segment without holes")
                for hop in hops:
                    stream.write(hop.samples.tobytes())
                count += len(hops)
                heard.append(
                    {
                        "qualities": [dataclasses.asdict(hop.quality) for hop in hops],
                        "usable": [hop.usable for hop in hops],
                        "channel": front_end.channel.value,
                    }
                )
            content.append((clip.path, first, heard))
            first += count
    temporary.replace(audio_file)
    # The index comes last: it says that the hops beside it are whole.
    unfinished = index.with_suffix(".part")
    unfinished.write_text(json.dumps(content), encoding="utf-8")
    unfinished.replace(index)


def _from_json(block: Mapping[str, object]) -> _Heard:
    qualities, usable = block["qualities"], block["usable"]
    assert isinstance(qualities, list), "as _record writes it"
    assert isinstance(usable, list), "as _record writes it"
    return _Heard(
        tuple(HopQuality(**quality) for quality in qualities),
        tuple(usable),
        Channel(str(block["channel"])),
    )


def _key(clips: Sequence[Clip], line: Line) -> str:
    """Of the clips, the line, and the code that hears them: a changed front end is heard anew."""
    digest = hashlib.sha256(repr((line, GateSettings())).encode())
    for clip in clips:
        digest.update(f"{clip.path} {clip.sha256}\n".encode())
    for file in sorted(Path(audio.__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    for source in (scoring.__file__, lines.__file__):
        digest.update(Path(source).read_bytes())
    return digest.hexdigest()[:16]
