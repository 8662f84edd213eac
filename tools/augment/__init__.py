"""Makes recording conditions uninformative: rooms, microphones, noise, levels, codecs, lines.

Nothing in this package sees a label: both classes go through the same distribution, always (the
recording condition otherwise *is* the label). Batches are float32 ``[batch, samples]`` at 16 kHz,
full scale 1.0; all randomness comes from the generator that the caller passes.
"""

from tools.augment.augmenter import Augmenter
from tools.augment.codecs import CODECS, code_clip, missing_codecs
from tools.augment.line import quantise, telephone, to_int16
from tools.augment.noise import coloured_noise
from tools.augment.settings import AugmentSettings

__all__ = [
    "CODECS",
    "AugmentSettings",
    "Augmenter",
    "code_clip",
    "coloured_noise",
    "missing_codecs",
    "quantise",
    "telephone",
    "to_int16",
]
