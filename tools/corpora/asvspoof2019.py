"""ASVspoof 2019 logical access (Wang et al., 2020), as the archive LA.zip unpacks.

``ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{train.trn,dev.trl,eval.trl}.txt`` with
``speaker file - system key``, and ``ASVspoof2019_LA_{train,dev,eval}/flac/FILE.flac``.
"""

from __future__ import annotations

from pathlib import Path

from tools.corpora.entry import Entry, fields, one_of
from tools.data import DataError

SYSTEMS = {
    **dict.fromkeys(("A01", "A02", "A03", "A04"), "tts"),
    **dict.fromkeys(("A05", "A06"), "vc"),
    **dict.fromkeys(("A07", "A08", "A09", "A10", "A11", "A12"), "tts"),
    # Text-to-speech whose voice is then converted. Text goes in and nobody speaks: tts, as a
    # two-stage synthesiser is named after its first stage everywhere else.
    **dict.fromkeys(("A13", "A14", "A15"), "tts"),
    "A16": "tts",  # A04 again, trained on other speakers
    **dict.fromkeys(("A17", "A18", "A19"), "vc"),
}
"""Technology of each attack (table 1 of the paper; A16 = A04, A19 = A06)."""

_PROTOCOLS = ("train.trn", "dev.trl", "eval.trl")
_NAMES = ("speaker", "file", "unused", "system", "key")
_PARTS = {"LA_T_": "train", "LA_D_": "dev", "LA_E_": "eval"}


def entries(root: Path) -> list[Entry]:
    """Train, dev and eval."""
    folder = root / "ASVspoof2019_LA_cm_protocols"
    found: list[Entry] = []
    for part in _PROTOCOLS:
        found += parse_protocol(folder / f"ASVspoof2019.LA.cm.{part}.txt")
    return found


def parse_protocol(path: Path) -> list[Entry]:
    """One protocol file; the name of a file says its part."""
    found: list[Entry] = []
    for line, (speaker, file, _, system, key) in fields(path, _NAMES, len(_NAMES)):
        part = _PARTS.get(file[:5])
        if part is None or not file[5:].isdecimal():
            allowed = " or ".join(f"{prefix}NUMBER" for prefix in _PARTS)
            raise DataError(path, line, "file", file, allowed)
        one_of(path, line, "key", key, ("bonafide", "spoof"))
        if key == "bonafide":
            one_of(path, line, "system", system, ("-",))
        else:
            one_of(path, line, "system", system, tuple(SYSTEMS))
        found.append(
            Entry(
                path=f"ASVspoof2019_LA_{part}/flac/{file}.flac",
                label=key,
                technology=SYSTEMS.get(system, "human"),
                generator="human" if key == "bonafide" else f"asvspoof_{system.lower()}",
                source="asvspoof2019_la",
                speaker=speaker,
                language="en",
                subset=part,
            )
        )
    return found
