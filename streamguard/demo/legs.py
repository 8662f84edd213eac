"""A leg of the demonstration: its samples, what is true of it, how the sender gets it."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamguard.errors import StreamguardError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RATE_HZ: Final = 8000
PACKET_SAMPLES: Final = 160
"""20 ms, the packet that telephony uses."""
MANIFEST: Final = "legs.json"


class DemoError(StreamguardError):
    """The demonstration cannot be set up; the message says what to install or change."""


class Truth(enum.StrEnum):
    """What a leg really is."""

    SYNTHETIC = "synthetic"
    HUMAN = "human"
    TURNS = "human, then synthetic"
    NO_SPEECH = "no speech"


class MarkKind(enum.StrEnum):
    """What is sent in place of audio packets."""

    COMFORT_NOISE = "comfort_noise"
    """RFC 3389; ``value`` is the level in -dBov."""
    EVENT = "event"
    """RFC 4733; ``value`` is the event code: 0-9, 10 = *, 11 = #."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Samples ``start`` to ``start + count``, both whole packets, are not sent as audio."""

    kind: MarkKind
    start: int
    count: int
    value: int


@dataclass(frozen=True, slots=True, eq=False)
class DemoLeg:
    """One direction of a call to be played."""

    name: str
    truth: Truth
    codec: str
    """``PCMU`` or ``PCMA``."""
    samples: npt.NDArray[np.int16]
    """8 kHz."""
    note: str
    """Where the voice comes from, for the reader of the report."""
    marks: tuple[Mark, ...] = ()
    turn_s: float | None = None
    """When a human voice becomes a synthetic one."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / RATE_HZ


def save_legs(folder: Path, legs: Sequence[DemoLeg]) -> None:
    """Write ``legs.json`` and one ``.npy`` per leg, for the sender's process."""
    import numpy as np

    entries = []
    for index, leg in enumerate(legs):
        file = f"{index}.npy"
        np.save(folder / file, leg.samples, allow_pickle=False)
        entries.append(
            {
                "name": leg.name,
                "truth": leg.truth.value,
                "codec": leg.codec,
                "file": file,
                "note": leg.note,
                "marks": [asdict(mark) for mark in leg.marks],
                "turn_s": leg.turn_s,
            }
        )
    (folder / MANIFEST).write_text(json.dumps(entries, indent=1), encoding="utf-8")


def load_legs(folder: Path) -> tuple[DemoLeg, ...]:
    """Read what ``save_legs`` wrote. Raises DemoError naming the file."""
    path = folder / MANIFEST
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            DemoLeg(
                name=str(entry["name"]),
                truth=Truth(entry["truth"]),
                codec=str(entry["codec"]),
                samples=load_samples(folder / Path(entry["file"]).name),
                note=str(entry["note"]),
                marks=tuple(
                    Mark(MarkKind(m["kind"]), int(m["start"]), int(m["count"]), int(m["value"]))
                    for m in entry["marks"]
                ),
                turn_s=entry["turn_s"],
            )
            for entry in entries
        )
    except OSError as err:
        raise DemoError(f"{err.filename}: {err.strerror}") from err
    except (ValueError, KeyError, TypeError) as err:
        raise DemoError(f"{path}: not what save_legs writes: {err!r}") from err


def load_samples(path: Path) -> npt.NDArray[np.int16]:
    """A ``.npy`` file of int16 at 8 kHz, or any sound file (first channel, resampled)."""
    import numpy as np

    if path.suffix == ".npy":
        samples: npt.NDArray[np.int16] = np.load(path, allow_pickle=False)
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise DemoError(f"{path}: must be one-dimensional int16, is {samples.dtype}")
        return samples
    return to_int16(read_sound(path))


def read_sound(path: Path) -> npt.NDArray[np.float64]:
    """The first channel of a sound file at 8 kHz, full scale 1.0."""
    import numpy as np
    import soundfile
    import soxr

    try:
        samples, rate_hz = soundfile.read(path, dtype="float64", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as err:
        raise DemoError(f"{path}: cannot be read as audio: {err}") from err
    if not len(samples):
        raise DemoError(f"{path}: holds no audio")
    return np.asarray(soxr.resample(samples[:, 0], rate_hz, RATE_HZ, quality="HQ"), np.float64)


def to_int16(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    """Full scale 1.0 to int16, clipped at full scale."""
    import numpy as np

    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
