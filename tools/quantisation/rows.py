"""What a graph is fed with in service: rows of its inputs, from clips by the daemon's front end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from streamguard.audio.frontend import FrontEnd
from streamguard.audio.settings import GateSettings
from streamguard.clock import WINDOW_HOPS
from streamguard.inference.bundle import Bundle
from streamguard.inference.network import Network
from streamguard.inference.ort import OrtEngine
from streamguard.inference.target import load_target
from tools.data import AudioCache, Clip
from tools.progress import track
from tools.scoring import LINES, LOW_RATE_LINE, blocks, codec_of, over

if TYPE_CHECKING:
    from streamguard.inference.engine import EngineInfo, Tensors
    from streamguard.inference.network import Row


class RecordingEngine:
    """An engine that keeps the rows that one graph was given."""

    def __init__(self, engine: OrtEngine, graph: str) -> None:
        self.rows: list[Row] = []
        self._engine = engine
        self._graph = graph

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        if graph == self._graph:
            count = len(next(iter(inputs.values())))
            self.rows += [{name: x[i] for name, x in inputs.items()} for i in range(count)]
        return self._engine.run(graph, inputs)

    def warm_up(self) -> None:
        self._engine.warm_up()

    def close(self) -> None:
        self._engine.close()


def service_rows(bundle: Bundle, clips: Sequence[Clip], cache: AudioCache) -> list[Row]:
    """Inputs of the fp32 body graph: the first window of speech of each clip over every line."""
    engine = RecordingEngine(OrtEngine(bundle, load_target("cpu-fp32")), bundle.choose("fp32").body)
    network = Network(bundle, engine)
    lines = (*LINES, LOW_RATE_LINE)
    for number, clip in enumerate(track(clips, "calibrating", len(clips))):
        line = lines[number % len(lines)]
        front_end = FrontEnd("clip", network.left_context, GateSettings())
        state = network.fresh_state()
        parts: list[Row] = []
        heard = over(line, cache.samples(clip), number)
        for block in blocks(*heard, codec=codec_of(line, number)):
            for hop in front_end.process(block):
                if len(parts) < WINDOW_HOPS and (hop.usable or network.whole_window):
                    (out,) = network.hops([np.concatenate((hop.context, hop.samples))], [state])
                    state = out.state
                    parts.append(out.parts)
        if network.whole_window and parts:
            network.windows([parts])
    network.close()
    return engine.rows
