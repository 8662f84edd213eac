"""ASVspoof 2021 logical access and deepfake (Liu et al., 2023).

Audio in ``ASVspoof2021_{LA,DF}_eval/flac/FILE.flac``, labels in the published key packages:
``keys/{LA,DF}/CM/trial_metadata.txt``. There is nothing to train on: the progress phase becomes
dev, the evaluation eval. The hidden subset, cut to the speech alone, is left out: it answers
another question.
"""

from __future__ import annotations

from pathlib import Path

from tools.corpora.asvspoof2019 import SYSTEMS
from tools.corpora.entry import Entry, fields, inside, one_of

_NAMES = ("speaker", "file", "codec", "channel", "attack", "key", "trim", "phase")
_DF_NAMES = (*_NAMES, "vocoder", "task", "team", "gender", "language")
_PHASES = {"progress": "dev", "eval": "eval", "hidden": ""}
_DF_SOURCES = ("asvspoof", "vcc2018", "vcc2020")
_NO_ATTACK = ("-", "bonafide")


def la_entries(root: Path) -> list[Entry]:
    """Logical access: the speech of ASVspoof 2019 sent through telephone lines."""
    path = root / "keys" / "LA" / "CM" / "trial_metadata.txt"
    found: list[Entry] = []
    for line, (speaker, file, codec, channel, attack, key, _, phase) in fields(path, _NAMES, 8):
        one_of(path, line, "key", key, ("bonafide", "spoof"))
        one_of(path, line, "attack", attack, _NO_ATTACK if key == "bonafide" else tuple(SYSTEMS))
        subset = _PHASES[one_of(path, line, "phase", phase, tuple(_PHASES))]
        if subset:
            found.append(
                Entry(
                    path=f"ASVspoof2021_LA_eval/flac/{inside(path, line, 'file', file)}.flac",
                    label=key,
                    technology=SYSTEMS.get(attack, "human"),
                    generator=_generator(key, attack, "asvspoof"),
                    source="asvspoof2021_la",
                    speaker=speaker,
                    language="en",
                    subset=subset,
                    detail=f"codec={codec}; channel={channel}",
                )
            )
    return found


def df_entries(root: Path) -> list[Entry]:
    """Deepfake: coded and decoded speech of ASVspoof 2019 and two voice conversion challenges."""
    path = root / "keys" / "DF" / "CM" / "trial_metadata.txt"
    found: list[Entry] = []
    for line, row in fields(path, _DF_NAMES, 9):
        speaker, file, codec, source, attack, key, _, phase, vocoder = row[:9]
        one_of(path, line, "channel", source, _DF_SOURCES)
        one_of(path, line, "key", key, ("bonafide", "spoof"))
        if key == "bonafide":
            one_of(path, line, "attack", attack, _NO_ATTACK)
        elif source == "asvspoof":
            one_of(path, line, "attack", attack, tuple(SYSTEMS))
        subset = _PHASES[one_of(path, line, "phase", phase, tuple(_PHASES))]
        if subset:
            # Every team of the voice conversion challenges converts voices.
            spoofed = SYSTEMS[attack] if source == "asvspoof" and key == "spoof" else "vc"
            found.append(
                Entry(
                    path=f"ASVspoof2021_DF_eval/flac/{inside(path, line, 'file', file)}.flac",
                    label=key,
                    technology=spoofed if key == "spoof" else "human",
                    generator=_generator(key, attack, source),
                    source=f"asvspoof2021_df/{source}",
                    speaker=speaker,
                    subset=subset,
                    detail=f"codec={codec}; vocoder={vocoder}",
                )
            )
    return found


def _generator(key: str, attack: str, source: str) -> str:
    return "human" if key == "bonafide" else f"{source}_{attack.lower()}"
