"""The registry of copy-synthesis.

Conventional codecs, parametric ones such as codec2 included, are not here: a human voice through
a telephone codec stays bona fide, so they belong to augmentation, on both classes alike.
"""

from __future__ import annotations

from tools.corpus.griffin_lim import griffin_lim, mel_phase
from tools.corpus.harmonic import harmonic_noise
from tools.corpus.imaging import imaging
from tools.corpus.lpc import lpc
from tools.corpus.method import Method, fixed
from tools.corpus.quantiser import prepare_mdct_codec, prepare_mel_codec
from tools.corpus.world import prepare_world

METHODS = {
    method.name: method
    for method in (
        Method("griffinlim", "vocoder", fixed(griffin_lim)),
        Method("mel_phase", "vocoder", fixed(mel_phase)),
        Method("world", "vocoder", prepare_world),
        Method("lpc", "vocoder", fixed(lpc)),
        Method("harmonic_noise", "vocoder", fixed(harmonic_noise)),
        Method("imaging", "vocoder", fixed(imaging)),
        Method("mel_rvq", "codec", prepare_mel_codec),
        Method("mdct_rvq", "codec", prepare_mdct_codec),
    )
}
