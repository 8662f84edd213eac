"""``CARD.md`` of a detection bundle: what it is, what it is made from, how far to trust it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tools.bundle_writer import read_document
from tools.data import ROLES, Clip, Split

if TYPE_CHECKING:
    from tools.evaluate import Report

_LIMITS = """\
- A first model. Its window scores are weak evidence; the daemon adds them up per leg and
  abstains where it may. No decision about a person should rest on it alone.
- The numbers above are on the sources that chose the checkpoint (least mean EER over all epochs)
  and against which the recipe was settled, so they are optimistic. Calibration used other sources
  again; a test on sources that nothing has seen is still to come.
- Speakers and corpora (LJSpeech, VCTK, LibriTTS) recur in demonstration pages: sources are
  disjoint between splits, some voices are not, and a few utterances (one byte for byte) occur in
  sources of different roles.
- The recording condition leaks the label in collections like this one. Read the columns of paired
  sources, not the pooled ones.
- Under three hours of human speech, most of it read, most of it English: false alarms on other
  languages, ages, rooms and codecs are not known.
- Narrow band is simulated with G.711; the telephone numbers below are of such copies. Conventional
  codecs on human speech are bona fide; neural codecs that resynthesise are spoof.
- Replayed or spliced human speech is out of scope.
- Legs for the leg model are joined clips of at most 30 s: joins hide the drift of a real call. The
  correlation of successive hops came out below 1 and is set to 1.
- Human voices of the validation sources once moved the rule: a review on these legs found that one
  spread for both classes raised hardly any spoofed leg; since then each class has its own.
- The synthesisers espeak-ng, flite and festival, which the demonstration uses, occur as generators
  in the training sources (`local:*`); no clip of the demonstration does. Its result on them is
  therefore not a result on unseen generators.
"""


def write_card(folder: Path, result: Report, clips: Sequence[Clip], split: Split) -> str:
    """The text of the card; facts about the bundle come from its ``bundle.yaml``."""
    document = read_document(folder)
    parts = [
        f"# {document['name']} {document['version']}: bona fide or spoof, per window of 3 s\n",
        "LFCC CNN-LSTM after Cheng et al., *Explainable AI for forensic speech authentication*, "
        "Front. Neurosci. 19 (2025). Input: 16 kHz mono, divided by its causal running peak. "
        "Output: a natural-log likelihood ratio, positive for spoof, calibrated per channel class."
        "\n\nMade with `tools.train`, `tools.export_detector`, `tools.calibrate` and "
        f"`tools.evaluate`; recipe sha256 `{document['made_with']['recipe_sha256'][:16]}…`.\n",
        "## Numbers\n",
        "Validation sources, one window per clip that the gate accepts, through the daemon's own "
        "front end. Direct: 16 kHz; telephone: 8 kHz G.711, both laws. Brackets: 95 % bootstrap "
        "over sources. minDCF: prior 0.05, false alarms ten times as dear as misses.\n",
        _numbers(result),
        "Mean EER inside the paired sources with at least five clips of each class: "
        + "; ".join(f"{line} {_percent(v)}" for line, v in result.within_source_eer.items())
        + ".\n",
        "Clips of which a window was accepted: "
        + "; ".join(f"{name} {_percent(v)}" for name, v in result.accepted.items())
        + ".\n",
        "Windows with LLR above 0, direct line (false alarms for human; a technology is in a few "
        "sources only, so this says as much of them as of it): "
        + ", ".join(f"{name} {_percent(v)}" for name, v in result.technologies.items())
        + ".\n",
        "## Legs, by the default rule\n",
        "The same clips joined to pseudo-legs of one voice each (most of them still short), judged "
        "window by window as the daemon does. What is neither raised nor bona fide ends as UNKNOWN "
        "or SUSPECT.\n",
        _legs(result),
        "## Per source, direct line\n",
        _sources(result),
        "## Calibration\n",
        _calibration(document["calibration"]),
        "## Limits\n",
        _LIMITS,
        "## Data\n",
        "Research data of mixed, partly unstated licences; no audio is distributed with the model. "
        "Held out of training altogether, wherever they occur: "
        + ", ".join(sorted(split.held_out_generators))
        + ".\n",
        *(_role(role, split.select(clips, role)) for role in ROLES if role != "test"),
    ]
    return "\n".join(parts)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _numbers(result: Report) -> str:
    header = ("windows", "bona fide", "spoof", "sources", "EER", "AUC", "minDCF", "Cllr")
    rows = [
        (
            name,
            str(values.bonafide),
            str(values.spoof),
            str(values.sources),
            _percent(values.eer.value)
            + f" [{100 * values.eer.low:.0f}, {100 * values.eer.high:.0f}]",
            f"{values.auc:.3f}",
            f"{values.min_dcf:.3f}",
            f"{values.cllr:.3f} (min {values.min_cllr:.3f})",
        )
        for name, values in result.measured.items()
    ]
    more = ("windows", "detected at 1 % false alarms", "false alarms at 95 % detected")
    rest = [
        (name, _percent(values.detected_at_1pct), _percent(values.fpr95))
        for name, values in result.measured.items()
    ]
    return _table(header, rows) + "\n" + _table(more, rest)


def _legs(result: Report) -> str:
    header = ("line", "legs", "judged", "median net speech", "ever SPOOF", "ever BONAFIDE")
    return _table(
        header,
        (
            (
                row.line,
                "spoof" if row.spoof else "bona fide",
                str(row.legs),
                f"{row.net_speech_s:.1f} s",
                f"{_percent(row.raised)} ({round(row.raised * row.legs)})",
                _percent(row.bonafide),
            )
            for row in result.legs
        ),
    )


def _sources(result: Report) -> str:
    def number(value: float | None, text: str) -> str:
        return "–" if value is None else text.format(value)

    return _table(
        ("source", "bona fide", "spoof", "mean LLR bona fide", "mean LLR spoof", "EER"),
        (
            (
                row.source,
                str(row.bonafide),
                str(row.spoof),
                number(row.mean_llr_bonafide, "{:.2f}"),
                number(row.mean_llr_spoof, "{:.2f}"),
                "–" if row.eer is None else _percent(row.eer),
            )
            for row in result.sources
        ),
    )


def _calibration(calibration: dict[str, dict[str, dict[str, dict[str, float]]]]) -> str:
    return _table(
        (
            "channel",
            "clips",
            "legs of 6 s or more",
            "speakers",
            "sources",
            "hours",
            "sd between bona fide legs (upper 95 %)",
            "between spoofed legs",
            "within a leg, per hop",
        ),
        (
            (
                f"{channel} ({precision})",
                *(str(values["exposure"][key]) for key in ("clips", "legs", "speakers", "sources")),
                f"{values['exposure']['hours']:.2f}",
                f"{values['leg']['bonafide_between_sd']:.2f}",
                f"{values['leg']['spoof_between_sd']:.2f}",
                f"{values['leg']['within_sd']:.2f}",
            )
            for precision, channels in calibration.items()
            for channel, values in channels.items()
        ),
    )


def _role(role: str, clips: Sequence[Clip]) -> str:
    by_source = Counter(clip.source_repo for clip in clips)
    listed = ", ".join(f"{source} ({count})" for source, count in sorted(by_source.items()))
    return f"**{role}**, {len(clips)} clips of {len(by_source)} sources: {listed}.\n"
