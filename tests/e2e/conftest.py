"""What the end-to-end tests share: a broker, a voice, a detector with an opinion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alerts.broker import Broker
from tests.e2e.daemon import make_speech


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as running:
        yield running


@pytest.fixture(scope="session")
def short_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 s: enough to raise and to update."""
    return make_speech(tmp_path_factory.mktemp("voice"), 6.0)


@pytest.fixture(scope="session")
def long_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A call that outlasts its test."""
    return make_speech(tmp_path_factory.mktemp("voice"), 90.0)


@pytest.fixture(scope="session")
def accuser(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A detector to which every voice is spoofed, the louder the more."""
    return _bundle(tmp_path_factory, 2.0, 20.0)


@pytest.fixture(scope="session")
def believer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A detector to which every voice is bona fide."""
    return _bundle(tmp_path_factory, -4.0, 0.0)


def _bundle(factory: pytest.TempPathFactory, logit: float, per_loudness: float) -> str:
    pytest.importorskip("onnx", reason="needs the onnx package (extra 'train')")
    from tests.e2e.bundles import opinionated_bundle

    return str(opinionated_bundle(factory.mktemp("bundle") / "it", logit, per_loudness))
