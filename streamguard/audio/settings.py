"""Settings of the gate: what a hop must be to count as evidence."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from streamguard.settings import Section


class GateSettings(Section):
    """When a hop of 0.5 s is speech worth scoring, and when a window of six has enough of it."""

    min_net_speech_s: float = Field(default=1.0, gt=0.0, le=3.0)
    """Active speech that a window of 3 s needs in its usable hops; a third of it is more than
    pauses of fluent speech leave out. Shorter windows need proportionally less."""
    min_speech_fraction: float = Field(default=0.2, ge=0.0, le=1.0)
    """Share of a hop that must be active speech: 100 ms are about one syllable."""
    noise_margin_db: float = Field(default=8.0, ge=3.0, le=30.0)
    """How far above the noise floor a 10 ms frame must be to be active. Stationary noise stays
    within 5 dB of its own floor; speech, even at 10 dB signal to noise, passes."""
    active_floor_dbfs: float = Field(default=-60.0, ge=-100.0, le=-20.0)
    """Nothing below it (300 to 3400 Hz, per 10 ms) is active, however quiet the noise."""
    silence_dbfs: float = Field(default=-50.0, ge=-100.0, le=-20.0)
    """A hop without speech below this level is silence; comfort noise is usually at -60 to -50."""
    max_lost_fraction: float = Field(default=0.1, ge=0.0, le=1.0)
    """Lost share of a hop above which it is not used: more than two 20 ms packets in 0.5 s, and
    the zeros in their place become the most conspicuous artefact of the hop."""
    max_tone_fraction: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of tones above which a hop is not used; the shortest valid DTMF digit is 40 ms."""
    max_clipped_fraction: float = Field(default=0.01, ge=0.0, le=1.0)
    """Share of samples at full scale above which a hop is not used; loud but clean speech has a
    tenth of it."""
    prompts: tuple[Path, ...] = ()
    """Audio files of announcements that may be synthetic: where a leg plays one, it is masked. At
    most 10 minutes in all; recognised by their sound, over telephone codecs too."""
    max_music_likelihood: float = Field(default=0.8, ge=0.0, le=1.0)
    """Above it a hop is music. High on purpose: speech called music costs a verdict, music called
    speech mostly fails the detector's own checks."""
