"""Where the figures of a report come from: processor, accelerators, threads, versions."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from importlib import metadata
from typing import Any

import numpy as np

from streamguard import __version__

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")
"""Of those that decide how fast a network runs, the ones that the processor has are named."""
_LIST_GPUS_S = 10.0


def machine() -> dict[str, Any]:
    """Processor, cores, accelerators and how threads are held to them."""
    return {
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "instructions": [x for x in INSTRUCTIONS if x in (_cpuinfo("flags") or "").split()],
        "cores": os.cpu_count(),
        "gpus": gpus(),
        "system": platform.platform(),
        "pinned_to": sorted(os.sched_getaffinity(0)),
        "thread_variables": {name: os.environ.get(name) for name in THREAD_VARIABLES},
        "load_average": round(os.getloadavg()[0], 2),
    }


def divided() -> tuple[list[int] | None, list[int] | None]:
    """A core for what is measured, the others for what drives it; neither where there is one."""
    cores = sorted(os.sched_getaffinity(0))
    return ([cores[-1]], cores[:-1]) if len(cores) > 1 else (None, None)


def hold_to(cores: str | None) -> None:
    """Hold this process to cores, numbers with commas; None: as it is."""
    if cores is not None:
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])


def cores_option(cores: list[int] | None) -> tuple[str, ...]:
    """As :func:`hold_to` takes it on a command line."""
    return () if cores is None else ("--cores", ",".join(map(str, cores)))


def gpus() -> list[str]:
    """Names and drivers as the vendor's tool tells them; empty where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = ["--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(  # noqa: S603  # a fixed query of a tool on the PATH
            [tool, *query], capture_output=True, text=True, timeout=_LIST_GPUS_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def versions() -> dict[str, str]:
    """Of what decides how fast it is."""
    import onnxruntime

    found = {
        "streamguard": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    if "torch" in sys.modules:
        found["torch"] = metadata.version("torch")
    try:
        found["uvloop"] = metadata.version("uvloop")
    except metadata.PackageNotFoundError:
        found["uvloop"] = "not installed"
    return found


def start_up_s() -> dict[str, float]:
    """What a fresh interpreter takes beyond its own start: best of five."""

    def best(code: str) -> float:
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # our own interpreter
            times.append(time.perf_counter() - begin)
        return min(times)

    bare = best("pass")
    show_help = "from streamguard.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    return {
        "import": round(max(0.0, best("import streamguard") - bare), 4),
        "help": round(max(0.0, best(show_help) - bare), 4),
    }


def _cpuinfo(key: str) -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return value.strip()
    except OSError:
        pass
    return None
