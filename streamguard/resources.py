"""Where the data that the daemon needs lies: packaged bundles, engine targets, configurations.

Two places have the same tree: a checkout (``models/``, ``engines/``, ``configs/`` beside the
package) and an installed wheel (``streamguard/_data/``, filled by ``setup.py``).
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "_data"


def data_root() -> Path:
    """The folder that holds ``models``, ``engines`` and ``configs``."""
    return _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent


def packaged_bundle(name: str) -> Path:
    """The bundle folder of a packaged model, whether it exists or not."""
    return data_root() / "models" / name / "bundle"


def packaged_bundles() -> tuple[str, ...]:
    """Names of the packaged bundles, sorted."""
    found = (data_root() / "models").glob("*/bundle/bundle.yaml")
    return tuple(sorted(path.parent.parent.name for path in found))


def packaged_target(name: str) -> Path:
    """The file of a packaged engine target, whether it exists or not."""
    return data_root() / "engines" / f"{name}.yaml"


def packaged_targets() -> tuple[str, ...]:
    """Names of the packaged engine targets, sorted."""
    return tuple(sorted(path.stem for path in (data_root() / "engines").glob("*.yaml")))


def packaged_config(name: str) -> Path:
    """The file of a ready configuration, whether it exists or not."""
    return data_root() / "configs" / f"{name}.yaml"


def packaged_configs() -> tuple[str, ...]:
    """Names of the ready configurations, sorted."""
    return tuple(sorted(path.stem for path in (data_root() / "configs").glob("*.yaml")))
