"""Engine targets: the packaged ones load, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamguard.errors import EngineError
from streamguard.inference.target import load_target
from streamguard.resources import packaged_targets

GOOD = """\
name: mine
runtime: onnxruntime
provider: CPUExecutionProvider
precision: fp32
threads: 2
batch_sizes: [1, 4]
"""


def test_every_packaged_target_loads_under_its_file_name() -> None:
    assert "cpu-fp32" in packaged_targets()
    for name in packaged_targets():
        assert load_target(name).name == name


def test_a_target_of_ones_own_is_found_by_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD)
    target = load_target(file)
    assert (target.name, target.threads, target.batch_sizes) == ("mine", 2, (1, 4))
    assert target.allow_fallback is False


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("threads: 2", "threads: 0", "threads"),
        ("threads: 2", "threads: true", "threads"),
        ("threads: 2", "thread: 2", "thread"),
        ("[1, 4]", "[4, 1]", "must ascend"),
        ("[1, 4]", "[1, 1]", "must ascend"),
        ("[1, 4]", "[]", "batch_sizes"),
        ("onnxruntime", "tensorflow", "runtime"),
        ("fp32", "fp64", "precision"),
        ("CPUExecutionProvider", "cpu", "provider"),
        ("name: mine", "name: mine\nname: yours", "given twice"),
    ],
)
def test_a_mistake_in_a_target_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(EngineError) as caught:
        load_target(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_an_unknown_target_names_the_packaged_ones() -> None:
    with pytest.raises(EngineError, match="cpu-fp32"):
        load_target("no-such-target")
