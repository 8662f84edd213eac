"""The pair of models that a configuration names, opened on its engine target."""

from __future__ import annotations

from dataclasses import dataclass

from streamguard.inference.bundle import find_bundle, load_bundle
from streamguard.inference.network import Network
from streamguard.inference.ort import OrtEngine
from streamguard.inference.scorer import Models
from streamguard.inference.target import load_target

DEFAULT_DETECTOR = "duet"
DEFAULT_ATTRIBUTION = "subband_attribution"
"""The packaged pair: chosen by measurement on sources that trained neither (their cards)."""


@dataclass(frozen=True, slots=True)
class PairNames:
    """What decides which networks run: equal names mean that nothing need be reloaded."""

    detector: str
    attribution: str | None
    engine: str


def open_models(names: PairNames) -> Models:
    """Load and verify the bundles and open their engines. Raises BundleError, EngineError."""
    target = load_target(names.engine)
    networks: list[Network] = []
    try:
        for name in (names.detector, names.attribution):
            if name is not None:
                bundle = load_bundle(find_bundle(name))
                networks.append(Network(bundle, OrtEngine(bundle, target)))
    except BaseException:
        for network in networks:
            network.close()
        raise
    return Models(*networks)
