"""``CARD.md`` of a bundle: what it is, what it is made from, how far to trust it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

from streamguard.inference.bundle import Bundle
from streamguard.inference.schema import Manifest
from streamguard.verdict.calibration import ChannelCalibration, LegModel
from tools.data import ROLES, Clip, Split
from tools.evaluation import tables
from tools.evaluation.detection import DetectionReport
from tools.evaluation.report import Report, Subject, attribution, detection

ABOUT = "about.md"
"""Beside a system's bundle: what nobody can measure. Its own words, put into every card."""

_WHAT = {
    "detection": (
        "Input: 16 kHz mono, divided by its causal running peak. Output: a natural-log likelihood "
        "ratio per window of 3 s, positive for spoof, calibrated per channel class."
    ),
    "attribution": (
        "Which technology and which generator made speech that is already suspected to be "
        "synthetic, per window of 3 s. It has no bona fide class and must not be read as a "
        "detector."
    ),
}

_LIMITS = """\
- No decision about a person should rest on it alone: the daemon adds windows up per leg and
  abstains where it may.
- The validation sources chose checkpoints and settled the recipe, so numbers on them are
  optimistic; calibration used other sources again.
- Speakers and corpora (LJSpeech, VCTK, LibriTTS) recur in demonstration pages: sources are disjoint
  between splits, some voices are not, and a few utterances (one byte for byte) occur in sources of
  different roles.
- Research recordings, most of them read, most of them English; under three hours of human speech.
  What it does on other languages, ages, rooms and codecs is not known.
- Narrow band is simulated with G.711. Conventional codecs on human speech are bona fide; neural
  codecs that resynthesise are spoof. Replayed or spliced human speech is out of scope.
- The synthesisers espeak-ng, flite and festival, which the demonstration uses, occur as generators
  in the training sources (`local:*`); no clip of the demonstration does. Its result on them is
  therefore not a result on unseen generators.
"""


def card_text(
    bundle: Bundle, subject: Subject, report: Report, clips: Sequence[Clip], split: Split
) -> str:
    """The text of the card."""
    manifest = bundle.manifest
    about = bundle.folder.parent / ABOUT
    own = [about.read_text(encoding="utf-8").strip() + "\n"] if about.is_file() else []
    measured = detection(report) if isinstance(report, DetectionReport) else attribution(report)
    return "\n".join(
        [
            f"# {manifest.name} {manifest.version}\n",
            _WHAT[subject.task] + "\n",
            *own,
            f"Made with `tools.calibrate` and `tools.evaluate`; recipe sha256 "
            f"`{manifest.made_with.get('recipe_sha256', 'unknown')[:16]}…`; engine "
            f"`{subject.target}`.\n",
            f"# Measured on the {subject.role} sources\n",
            *measured,
            "# Calibration\n",
            *_classes(manifest),
            _exposure(bundle),
            _false_alarms(bundle),
            "# Limits\n",
            _LIMITS,
            "# Data\n",
            "Research data of mixed, partly unstated licences; no audio is distributed with the "
            "model. Held out of training altogether, wherever they occur: "
            + ", ".join(sorted(split.held_out_generators))
            + ".\n",
            *(_role(role, split.select(clips, role)) for role in ROLES if role != "test"),
        ]
    )


def _classes(manifest: Manifest) -> Iterable[str]:
    labels, thresholds = manifest.labels, dataclasses.asdict(manifest.thresholds)
    if labels.technology:
        listed = (f"{entry.name} ({entry.technology})" for entry in labels.generator)
        yield f"Technologies: {', '.join(labels.technology)}.\n"
        yield f"Generators: {', '.join(listed)}.\n"
    if said := [f"{name} {value:.3g}" for name, value in thresholds.items() if value is not None]:
        yield f"Thresholds (1 for a label: never said): {', '.join(said)}.\n"


def _channels(bundle: Bundle) -> Iterable[tuple[str, ChannelCalibration]]:
    for precision, channels in bundle.calibrations.items():
        for channel, calibration in channels.items():
            yield f"{channel} ({precision})", calibration


def _exposure(bundle: Bundle) -> str:
    """On how much it stands, and the random effect per leg."""

    def spreads(leg: LegModel | None) -> Sequence[str]:
        if leg is None:
            return [tables.NONE] * 3
        between = (leg.class_between_sd(spoofed=spoofed) for spoofed in (False, True))
        return [tables.number(value) for value in (*between, leg.within_sd)]

    return tables.table(
        (
            "channel",
            "clips",
            "legs of 6 s or more",
            "speakers",
            "sources",
            "hours",
            "sd between bona fide legs",
            "between spoofed legs",
            "within a leg, per hop",
        ),
        (
            (
                name,
                str(found.exposure.clips),
                str(found.exposure.legs),
                str(found.exposure.speakers),
                str(found.exposure.sources),
                tables.number(found.exposure.hours),
                *spreads(found.leg),
            )
            for name, found in _channels(bundle)
        ),
    )


def _false_alarms(bundle: Bundle) -> str:
    found = [(name, c.false_alarms) for name, c in _channels(bundle) if c.false_alarms is not None]
    if not found:
        return ""
    return (
        "False alarms of the default rule on human pseudo-legs of the calibration sources, none "
        "of them judged by numbers that its own source has settled. **An extrapolation**: the "
        "exposure is far below a thousand call-hours.\n\n"
    ) + tables.table(
        (
            "channel",
            "raised of legs",
            "speakers (sources)",
            "hours",
            "per 1,000 call-hours (95 % below)",
            "the rule's own promise",
        ),
        (
            (
                name,
                f"{row.raised} of {row.legs}",
                f"{row.speakers} ({row.sources})",
                tables.number(row.hours),
                f"{row.per_1000_call_hours:.0f} ({row.upper_95:.0f})",
                f"{row.modelled:.0f}",
            )
            for name, row in found
        ),
    )


def _role(role: str, clips: Sequence[Clip]) -> str:
    by_source = Counter(clip.source_repo for clip in clips)
    listed = ", ".join(f"{source} ({count})" for source, count in sorted(by_source.items()))
    return f"**{role}**, {len(clips)} clips of {len(by_source)} sources: {listed}.\n"
