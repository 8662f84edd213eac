"""Scored clips of our own making."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from streamguard.verdict.scores import Attribution, Channel, Label, Rejection, WindowScore
from tests.tools.test_crops import CLIP
from tools.data import Clip
from tools.scoring import AttributedClip, AttributedWindow, ScoredClip


def window(llr: float | None, rejected: Rejection | None = None, **more: Any) -> WindowScore:
    values: dict[str, Any] = {
        "leg": "clip",
        "segment": 0,
        "index": 5,
        "start_s": 0.0,
        "end_s": 3.0,
        "raw": 0.5,
        "llr": llr,
        "rejected": rejected,
        "new_hops": 6,
        "usable_hops": 6,
        "net_speech_s": 2.0,
        "channel": Channel.WIDE,
    }
    return WindowScore(**{**values, **more})


def item(clip: Clip, *windows: WindowScore) -> ScoredClip:
    return ScoredClip(clip, "direct", windows)


def collection(shift: float = 3.0) -> list[ScoredClip]:
    """Source a has both classes, b spoofs only; b's condition gives it away."""
    rng = np.random.default_rng(1)
    items = []
    for source, label, offset in (("a", "bonafide", 0), ("a", "spoof", 1.0), ("b", "spoof", shift)):
        for number in range(20):
            clip = replace(
                CLIP,
                path=f"{source}{label}{number}",
                source_repo=source,
                label=label,
                technology="tts" if label == "spoof" else "human",
                generator="vits" if source == "a" else "secret",
            )
            items.append(item(clip, window(float(rng.standard_normal() + offset))))
    return items


def spoof(technology: str, generator: str, source: str = "a") -> Clip:
    path = f"{technology}/{generator}/{source}"
    return replace(
        CLIP,
        path=path,
        label="spoof",
        technology=technology,
        generator=generator,
        source_repo=source,
    )


def named(
    clip: Clip,
    technology: list[float],
    generator: list[float],
    said: tuple[str | None, str | None] = (None, None),
) -> AttributedClip:
    """A clip of one window with these logits and labels."""
    labels = [Rejection.LOW_CONFIDENCE if name is None else Label(name, 0.5) for name in said]
    outputs = {
        "technology_logits": np.array(technology, np.float32),
        "generator_logits": np.array(generator, np.float32),
    }
    one = AttributedWindow(0.0, 3.0, Channel.WIDE, None, outputs, Attribution(*labels))
    return AttributedClip(clip, "direct", (one,))


def unheard(clip: Clip) -> AttributedClip:
    """A clip that the gate rejects."""
    one = AttributedWindow(0.0, 3.0, Channel.WIDE, Rejection.SILENCE, {}, Attribution())
    return AttributedClip(clip, "direct", (one,))
