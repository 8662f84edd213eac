"""What a wheel carries: the package, and the data that the daemon needs, found again."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from streamguard import resources

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_wheel_carries_bundles_targets_and_configurations(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    for name in ("streamguard", "engines"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in {
        "models/tiny/bundle/bundle.yaml": "name: tiny",
        "models/tiny/bundle/hop_fp32.onnx": "graph",
        "models/tiny/bundle/CARD.md": "card",
        "models/tiny/network.py": "import torch",
        "configs/file.yaml": "node: test",
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", "--wheel-dir", str(tmp_path), str(project)),
        ],
        check=True,
        timeout=150,
    )
    (wheel,) = tmp_path.glob("streamguard-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    data = {name for name in names if name.startswith("streamguard/_data/")}
    assert data >= {
        "streamguard/_data/models/tiny/bundle/bundle.yaml",
        "streamguard/_data/models/tiny/bundle/hop_fp32.onnx",
        "streamguard/_data/models/tiny/bundle/CARD.md",
        "streamguard/_data/engines/cpu-fp32.yaml",
        "streamguard/_data/configs/file.yaml",
    }
    assert not [name for name in names if name.endswith("network.py") and "models/" in name]
    assert not [name for name in names if name.startswith(("models/", "engines/", "tests/"))]

    found = subprocess.run(
        [
            *(sys.executable, "-I", "-c"),
            f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r});"
            "from streamguard import resources as r;"
            "print(r.packaged_bundles(), r.packaged_targets(), r.packaged_configs());"
            "print(r.packaged_bundle('tiny').is_dir())",
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert found.splitlines()[0].startswith("('tiny',) (")
    assert "'cpu-fp32'" in found.splitlines()[0]
    assert found.splitlines()[0].endswith("('file',)")
    assert found.splitlines()[1] == "True"


def test_a_checkout_finds_its_own_data() -> None:
    assert resources.packaged_target("cpu-fp32") == ROOT / "engines" / "cpu-fp32.yaml"
    assert "cpu-fp32" in resources.packaged_targets()
    assert resources.packaged_bundle("lava") == ROOT / "models" / "lava" / "bundle"
    assert resources.packaged_config("x") == ROOT / "configs" / "x.yaml"


def test_every_extra_that_a_message_asks_for_can_be_installed() -> None:
    text = "".join(file.read_text() for file in (ROOT / "streamguard").rglob("*.py"))
    asked = set(re.findall(r'^EXTRA = "(\w+)"', text, re.MULTILINE))
    asked |= set(re.findall(r'MissingExtraError\(f?"[^"]*", "(\w+)"', text))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert asked >= {"cuda", "plot", "tensorrt", "torch"}
    assert asked <= project["optional-dependencies"].keys()
