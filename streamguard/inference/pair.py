"""The pair of models that a configuration names, opened on its engine target."""

from __future__ import annotations

from dataclasses import dataclass

from streamguard.inference.auto import target_for
from streamguard.inference.bundle import find_bundle, load_bundle
from streamguard.inference.engines import open_engine
from streamguard.inference.network import Network
from streamguard.inference.scorer import Models

DEFAULT_DETECTOR = "subband"
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
    networks: list[Network] = []
    try:
        for name in (names.detector, names.attribution):
            if name is not None:
                bundle = load_bundle(find_bundle(name))
                networks.append(
                    Network(bundle, open_engine(bundle, target_for(names.engine, bundle)))
                )
    except BaseException:
        for network in networks:
            network.close()
        raise
    return Models(*networks)
