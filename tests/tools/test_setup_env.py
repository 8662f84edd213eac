"""setup_env.sh on a Debian without ensurepip; Python, apt-get and sudo are scripts of the test."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"

# Knows what setup_env.sh asks. Without ensurepip ($DIR/venv-package) venv fails half-way.
PYTHON = """#!/bin/bash
case "$*" in
    *"import ensurepip"*) [ -e "$DIR/venv-package" ] ;;
    *"python%d.%d-venv"*) echo python3.11-venv ;;
    *"-m venv "*)
        mkdir -p "$3/bin" && touch "$3/pyvenv.cfg"
        does='exit 1'
        [ -e "$DIR/venv-package" ] && does='echo "$*" >> "$DIR/pip.log"'
        printf '#!/bin/bash\\n%s\\n' "$does" > "$3/bin/python"
        chmod +x "$3/bin/python"
        [ -e "$DIR/venv-package" ] ;;
esac
"""
APT = """#!/bin/bash
echo "$*" >> "$DIR/apt.log"
case "$*" in *install*python3.11-venv*) touch "$DIR/venv-package" ;; esac
"""


@dataclass(frozen=True)
class Machine:
    """A folder with the programs that setup_env.sh finds first on the PATH."""

    folder: Path

    def program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def user(self, uid: int) -> None:
        self.program("id", f"#!/bin/bash\necho {uid}\n")

    def set_up(self, level: str = "runtime") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", TOOLS / "setup_env.sh", "python3", str(self.folder / "venv"), level],
            env={"PATH": f"{self.folder}:/usr/bin:/bin", "DIR": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=15,
            check=False,
        )

    def log(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.program("python3", PYTHON)
    made.program("apt-get", APT)
    made.program("sudo", "#!/bin/bash\nexit 1\n")
    made.user(0)
    return made


def half_made(machine: Machine) -> None:
    """What a failed ``python -m venv`` leaves behind."""
    subprocess.run(
        [machine.folder / "python3", "-m", "venv", machine.folder / "venv"],
        env=os.environ | {"DIR": str(machine.folder)},
        check=False,
    )
    assert (machine.folder / "venv" / "bin" / "python").exists()


@pytest.mark.parametrize("left_over", [False, True])
def test_as_root_the_package_is_installed_and_a_half_made_environment_made_anew(
    machine: Machine, left_over: bool
) -> None:
    if left_over:
        half_made(machine)
    done = machine.set_up()
    assert done.returncode == 0, done.stderr
    assert "install -y -qq --no-install-recommends python3.11-venv" in machine.log("apt.log")
    assert "-e .[demo,fast,plot]" in machine.log("pip.log")
    assert ("has no working pip: making it anew" in done.stdout) is left_over


def test_without_the_right_to_install_it_says_what_to_type_and_the_next_run_succeeds(
    machine: Machine,
) -> None:
    half_made(machine)
    machine.user(1000)
    done = machine.set_up()
    assert done.returncode == 1
    assert "Please run: sudo apt-get install python3.11-venv\n" in done.stderr
    assert "No module named pip" not in done.stderr
    assert machine.log("apt.log") == ""
    (machine.folder / "venv-package").touch()  # they typed it
    assert machine.set_up().returncode == 0


def test_a_working_environment_is_kept(machine: Machine) -> None:
    (machine.folder / "venv-package").touch()
    assert machine.set_up().returncode == 0
    mine = machine.folder / "venv" / "mine"
    mine.touch()
    assert machine.set_up().returncode == 0
    assert mine.exists()
    assert machine.log("apt.log") == ""


def test_a_folder_that_is_no_environment_is_not_removed(machine: Machine) -> None:
    (machine.folder / "venv").mkdir()
    mine = machine.folder / "venv" / "mine"
    mine.touch()
    machine.set_up()
    assert mine.exists()


@pytest.mark.parametrize(
    ("level", "extras"),
    [("runtime", "demo,fast,plot"), ("full", "demo,fast,plot,mic,codecs,srtp,train,dev")],
)
def test_each_level_installs_its_extras_with_the_tested_versions(
    machine: Machine, level: str, extras: str
) -> None:
    (machine.folder / "venv-package").touch()
    assert machine.set_up(level).returncode == 0
    (line,) = [line for line in machine.log("pip.log").splitlines() if "install" in line]
    assert line.endswith(f"-c constraints.txt -e .[{extras}]")


def test_all_scripts_are_valid_bash() -> None:
    bash = shutil.which("bash")
    assert bash is not None
    for script in sorted(TOOLS.glob("*.sh")):
        subprocess.run([bash, "-n", script], check=True, timeout=15)
