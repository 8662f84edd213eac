"""A trained network as a method of copy-synthesis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tools.corpus.method import Copied, Method, fixed
from tools.corpus.neural.networks import Codec, build
from tools.corpus.spectra import Signal
from tools.training import load_checkpoint


def neural_method(checkpoint: Path) -> Method:
    """``neural_vocoder`` or ``neural_codec``; raises ``CheckpointError``."""
    state = load_checkpoint(checkpoint)
    recipe = state["recipe"]
    network = build(recipe)
    network.load_state_dict(state["network"])
    network.eval()

    def copy(speech: Signal, rng: np.random.Generator) -> Copied:
        drawn: dict[str, object] = {"steps": state["step"], **recipe["network"]}
        # The networks learn speech at a peak of -20 to 0 dB.
        peak = max(float(np.abs(speech).max()), 1e-6)
        audio = torch.from_numpy(speech / np.float32(peak))[None]
        with torch.inference_mode():
            if isinstance(network, Codec):
                drawn["used"] = used = int(rng.integers(min(2, network.stages), network.stages + 1))
                made = network(audio, used).speech
            else:
                made = network(audio).speech
        return made[0].numpy() * np.float32(peak), drawn

    technology = "codec" if isinstance(network, Codec) else "vocoder"
    return Method(f"neural_{recipe['kind']}", technology, fixed(copy))
