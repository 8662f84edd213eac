"""The exceptions of streamguard: few, and each one catchable for a reason.

The message is built inside the exception, from fields that stay readable on it, so that the command
line, the log and a test all see the same facts.
"""

from __future__ import annotations

from dataclasses import dataclass


class StreamguardError(Exception):
    """Base of everything that streamguard raises on purpose."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing that is wrong with a configuration, and where."""

    file: str
    line: int
    """1-based; 0 where the problem has no line (a missing file)."""
    key: str
    value: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.key}: {self.value}: {self.allowed}"


class ConfigError(StreamguardError):
    """A configuration cannot be used; carries every problem found, not only the first."""

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class AudioFileError(StreamguardError):
    """An audio file cannot be analysed."""

    def __init__(self, file: str, reason: str) -> None:
        self.file = file
        self.reason = reason
        super().__init__(f"{file}: {reason}")


class BundleError(StreamguardError):
    """A model bundle is refused: wrong hash, missing graph, wrong shapes, unknown key."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class EngineError(StreamguardError):
    """An engine cannot be had as asked (provider, precision, shapes)."""

    def __init__(self, target: str, reason: str) -> None:
        self.target = target
        self.reason = reason
        super().__init__(f"engine {target}: {reason}")


class SourceError(StreamguardError):
    """A source cannot start or has died; the supervisor decides whether to try again."""

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        self.reason = reason
        super().__init__(f"source {source}: {reason}")


class ProtocolError(StreamguardError):
    """Bytes of a peer break the rules of their protocol; whoever reads them counts and goes on."""

    def __init__(self, protocol: str, reason: str, detail: str = "") -> None:
        self.protocol = protocol
        self.reason = reason
        """One word, for counters: never anything that the peer wrote."""
        super().__init__(f"{protocol}: {detail or reason}")


class MissingExtraError(StreamguardError):
    """A feature needs an optional package that is not installed."""

    def __init__(self, feature: str, extra: str, detail: str = "") -> None:
        self.feature = feature
        self.extra = extra
        hint = f"{feature} needs the extra '{extra}': pip install 'streamguard[{extra}]'"
        super().__init__(f"{hint} ({detail})" if detail else hint)
