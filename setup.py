"""What pyproject.toml cannot say: data beside the package travels inside it as ``_data``."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
DATA = ("models/*/bundle/*", "engines/*.yaml", "configs/*.yaml")


def data_files() -> list[Path]:
    """Files that the daemon reads, relative to the project."""
    found = (path for pattern in DATA for path in ROOT.glob(pattern) if path.is_file())
    return sorted(path.relative_to(ROOT) for path in found)


class BuildWithData(build_py):
    """Copies the data; an editable install reads it where it lies."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for source, target in self._copies():
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))

    def _copies(self) -> list[tuple[Path, Path]]:
        base = Path(self.build_lib) / "streamguard" / "_data"
        return [(ROOT / path, base / path) for path in data_files()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs: list[str] = super().get_outputs(include_bytecode)
        if self.editable_mode:
            return outputs
        return outputs + [str(target) for _, target in self._copies()]

    def get_source_files(self) -> list[str]:
        """For the source distribution."""
        return [*super().get_source_files(), *(str(path) for path in data_files())]


setup(cmdclass={"build_py": BuildWithData})
