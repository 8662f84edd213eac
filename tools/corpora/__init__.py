"""Loaders of public corpora: a folder in its published layout becomes clips of one vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tools.corpora import (
    asvspoof2019,
    asvspoof2021,
    codecfake,
    fake_or_real,
    in_the_wild,
    mlaad,
    wavefake,
)
from tools.corpora.entry import Entry, clips_of
from tools.data import Clip

CORPORA: Mapping[str, Callable[[Path], list[Entry]]] = {
    "asvspoof2019_la": asvspoof2019.entries,
    "asvspoof2021_la": asvspoof2021.la_entries,
    "asvspoof2021_df": asvspoof2021.df_entries,
    "fake_or_real": fake_or_real.entries,
    "codecfake": codecfake.entries,
    "mlaad": mlaad.entries,
    "wavefake": wavefake.entries,
    "in_the_wild": in_the_wild.entries,
}


def load(name: str, root: Path) -> tuple[Clip, ...]:
    """Every clip of a corpus; reads the header of every file. Raises ``DataError``."""
    return clips_of(root, CORPORA[name](root))
