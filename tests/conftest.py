"""What all tests share: the CI's terms, a voice, and models that are quick and never learn."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, settings

IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}

# No deadline and no complaint about time: they measure how busy the machine is. The same examples
# in every run of the CI: what fails there must fail for whoever looks into it.
settings.register_profile(
    "streamguard",
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow,),
    derandomize=IN_CI,
)
settings.load_profile("streamguard")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a missing peer is a failure: a test that is skipped for ever would look like a pass."""
    report = yield
    is_xfail = hasattr(report, "wasxfail")
    if IN_CI and report.skipped and not is_xfail and item.get_closest_marker("peer"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"In CI the peer of this test must be there. {reason}"
    return report


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A daemon in this process sets up logging for all of it: not for the tests that follow."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    for handler in list(root.handlers):
        if type(handler).__module__ == "streamguard.telemetry.log":
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 s of speech, 16 kHz mono WAV."""
    from tests.e2e.daemon import make_speech

    return make_speech(tmp_path_factory.mktemp("voice"), 6.0)


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration: a detector that leans to spoof, the louder the more, and sure names."""
    from tests.commands.bundles import naming_bundle
    from tests.e2e.bundles import opinionated_bundle

    folder = tmp_path_factory.mktemp("models")
    config = folder / "config.yaml"
    sections = {
        "sources": [{"name": "line", "type": "rtp", "ports": [40000]}],
        "detector": str(opinionated_bundle(folder / "detector", 1.0, 20.0)),
        "attribution": str(naming_bundle(folder / "attribution", 9.0, 9.0)),
    }
    config.write_text(yaml.safe_dump(sections))
    return config
