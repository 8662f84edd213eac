"""What importing costs: nothing heavy is loaded before it is asked for."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import streamguard

HEAVY = ("torch", "onnxruntime", "tensorrt", "ray", "streamlit", "sounddevice", "matplotlib")


def loaded_by(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after running ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json\nprint(json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    modules: list[str] = json.loads(done.stdout.splitlines()[-1])
    return {name.partition(".")[0] for name in modules}


def test_importing_streamguard_loads_nothing_but_the_standard_library() -> None:
    assert loaded_by("import streamguard") & {*HEAVY, "numpy", "aiohttp", "pydantic"} == set()


def test_help_loads_neither_numpy_nor_a_runtime() -> None:
    code = (
        "import contextlib, io\nfrom streamguard.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main(['--help'])"
    )
    assert loaded_by(code) & {*HEAVY, "numpy", "aiohttp", "pydantic"} == set()


def test_no_module_of_the_package_loads_a_runtime_when_it_is_imported() -> None:
    names = [
        module.name
        for module in pkgutil.walk_packages(streamguard.__path__, "streamguard.")
        if not module.name.endswith("__main__")
    ]
    assert len(names) > 50
    code = "import importlib\n" + "\n".join(f"importlib.import_module({n!r})" for n in names)
    assert loaded_by(code) & set(HEAVY) == set()
