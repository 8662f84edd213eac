"""The configuration file: YAML in, one immutable Config out, or every mistake with its line."""

from __future__ import annotations

import difflib
import json
import re
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails

from streamguard.alerts.settings import AlertSettings, MqttSettings, OutboxSettings
from streamguard.audio.settings import GateSettings
from streamguard.errors import ConfigError, ConfigProblem
from streamguard.inference.pair import DEFAULT_ATTRIBUTION, DEFAULT_DETECTOR
from streamguard.inference.settings import InferenceSettings
from streamguard.policy import PolicySettings
from streamguard.settings import Section
from streamguard.sources.settings import SourceSettings
from streamguard.telemetry.settings import HttpSettings, LogSettings
from streamguard.verdict.settings import VerdictSettings

MAX_BYTES = 1 << 20
"""A configuration larger than this is somebody's mistake."""


class Config(Section):
    """Everything that one daemon needs to know."""

    node: str = Field(
        default="streamguard",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="Name of this daemon in topics and alerts",
    )
    prior: float = Field(
        default=0.01,
        gt=0.0,
        lt=1.0,
        description="Share of synthetic speech expected beforehand; p_spoof uses it, LLRs do not",
    )
    sources: tuple[SourceSettings, ...] = Field(
        description="Where audio comes from, at least one; names are unique"
    )
    detector: str = Field(
        default=DEFAULT_DETECTOR,
        description="Name of a packaged bundle, or the path of a bundle folder",
    )
    attribution: str | None = Field(
        default=DEFAULT_ATTRIBUTION,
        description="Bundle that names technology and generator; null switches it off",
    )
    engine: str = Field(
        default="cpu-fp32",
        description="Name of a packaged engine target, or the path of its file; auto: int8 where"
        " the processor has fast int8 and the bundle's int8 graph was accepted, else fp32",
    )
    inference: InferenceSettings = InferenceSettings()
    policy: PolicySettings = PolicySettings()
    gate: GateSettings = GateSettings()
    verdict: VerdictSettings = VerdictSettings()
    alerts: AlertSettings = AlertSettings()
    mqtt: MqttSettings | None = Field(
        default=None, description="The broker; without one alerts stay in the outbox"
    )
    outbox: OutboxSettings = OutboxSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    shutdown_budget_s: float = Field(
        default=9.0,
        gt=0.5,
        le=300.0,
        description="Longest time from SIGTERM to exit; containers are killed after 10 s",
    )

    @model_validator(mode="after")
    def _sources_are_told_apart(self) -> Self:
        # Not a min_length: pydantic would report that, too, when all sources have errors.
        if not self.sources:
            raise ValueError("sources: name at least one")
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"source names must be unique; used twice: {', '.join(twice)}")
        strange = sorted(self.policy.sources.keys() - set(names))
        if strange:
            raise ValueError(f"policy.sources: no source is called {', '.join(strange)}")
        return self


@dataclass(frozen=True, slots=True)
class _Located:
    """YAML data beside the line of each of its nodes."""

    data: Any
    lines: dict[tuple[str | int, ...], int]


class _NodeError(yaml.YAMLError):
    """A node of the file that cannot be taken as it is."""

    def __init__(self, problem: ConfigProblem) -> None:
        self.problem = problem
        super().__init__(str(problem))


def _locate(node: yaml.Node | None, loader: yaml.SafeLoader, file: str) -> _Located:
    lines: dict[tuple[str | int, ...], int] = {}

    def value_of(at: yaml.Node, path: tuple[str | int, ...]) -> Any:
        try:
            return loader.construct_object(at, deep=True)
        except ValueError as err:  # 2024-13-45 looks like a date, 0b_ like a number
            line = at.start_mark.line + 1
            shown = _shown(getattr(at, "value", None), path)
            allowed = f"not a valid value ({err}); text wants quotes"
            raise _NodeError(ConfigProblem(file, line, _dotted(path), shown, allowed)) from err

    def walk(at: yaml.Node, path: tuple[str | int, ...]) -> Any:
        lines.setdefault(path, at.start_mark.line + 1)
        if isinstance(at, yaml.MappingNode):
            out: dict[str, Any] = {}
            for key_node, value_node in at.value:
                key = str(value_of(key_node, path))
                if key in out:
                    line = key_node.start_mark.line + 1
                    where = _dotted((*path, key))
                    problem = ConfigProblem(file, line, where, "given twice", "each key once")
                    raise _NodeError(problem)
                lines[(*path, key)] = key_node.start_mark.line + 1
                out[key] = walk(value_node, (*path, key))
            return out
        if isinstance(at, yaml.SequenceNode):
            return [walk(item, (*path, i)) for i, item in enumerate(at.value)]
        return value_of(at, path)

    return _Located(walk(node, ()) if node is not None else {}, lines)


def _known_keys(model: type[BaseModel], path: tuple[str | int, ...], data: Any) -> list[str]:
    """Names allowed where an unknown key was found, for 'did you mean'."""
    current: Any = model
    for part in path:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int):
            data = data[part]
        if isinstance(part, int):
            continue
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            return []
        field = current.model_fields.get(part)
        if field is None:
            return []
        current = _model_of(field.annotation, data)
    if isinstance(current, type) and issubclass(current, BaseModel):
        return sorted(current.model_fields)
    models = [m for m in _models_in(current) if _tag_matches(m, data)]
    return sorted({name for m in models for name in m.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in typing.get_args(annotation) for m in _models_in(arg)]


def _model_of(annotation: Any, data: Any) -> Any:
    models = _models_in(annotation)
    return models[0] if len(models) == 1 else annotation


def _tag_matches(model: type[BaseModel], data: Any) -> bool:
    tag = model.model_fields.get("type")
    if tag is None or not isinstance(data, dict):
        return True
    return data.get("type") in typing.get_args(tag.annotation)


def _path_in_file(
    loc: tuple[str | int, ...], located: _Located, *, missing: bool
) -> tuple[str | int, ...]:
    """Drop what pydantic adds to a location (union tags) and the file does not have."""
    path: tuple[str | int, ...] = ()
    data = located.data
    for i, part in enumerate(loc):
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif missing and i == len(loc) - 1:
            return (*path, part)  # named, though the file has no line for it
        else:
            continue
        path = (*path, part)
    return path


def _dotted(path: tuple[str | int, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text or "(top level)"


_SECRET_KEYS = re.compile(r"pass|token|secret|key$", re.IGNORECASE)


def _shown(value: Any, path: tuple[str | int, ...]) -> str:
    if any(isinstance(part, str) and _SECRET_KEYS.search(part) for part in path):
        return "(hidden)"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def _problem(file: str, error: ErrorDetails, located: _Located) -> ConfigProblem:
    kind = error["type"]
    path = _path_in_file(error["loc"], located, missing=kind == "missing")
    line = 0
    for length in range(len(path), -1, -1):
        if path[:length] in located.lines:
            line = located.lines[path[:length]]
            break
    if kind == "extra_forbidden":
        known = _known_keys(Config, path[:-1], located.data)
        close = difflib.get_close_matches(str(path[-1]), known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        names = f"allowed: {', '.join(known)}" if known else "not a setting"
        return ConfigProblem(
            file, line, _dotted(path), "unknown key", hint + (names if not close else f"({names})")
        )
    if kind == "missing":
        return ConfigProblem(file, line, _dotted(path), "missing", "this key is required")
    message = error["msg"].removeprefix("Value error, ")
    return ConfigProblem(file, line, _dotted(path), _shown(error["input"], path), message)


def parse_config(text: str, file: str) -> Config:
    """Validate the text of a configuration. Raises ConfigError with all problems at once."""
    if len(text) > MAX_BYTES:
        raise ConfigError(
            (ConfigProblem(file, 0, "(file)", f"{len(text)} characters", f"at most {MAX_BYTES}"),)
        )
    try:
        loader = yaml.SafeLoader(text)
        try:
            located = _locate(loader.get_single_node(), loader, file)
        finally:
            loader.dispose()
    except _NodeError as err:
        raise ConfigError((err.problem,)) from err
    except yaml.MarkedYAMLError as err:
        line = err.problem_mark.line + 1 if err.problem_mark else 0
        problem = ConfigProblem(file, line, "(syntax)", str(err.problem), "valid YAML")
        raise ConfigError((problem,)) from err
    except (yaml.YAMLError, RecursionError) as err:
        problem = ConfigProblem(file, 0, "(syntax)", str(err).splitlines()[0], "valid YAML")
        raise ConfigError((problem,)) from err
    if not isinstance(located.data, dict):
        problem = ConfigProblem(file, 1, "(top level)", _shown(located.data, ()), "a mapping")
        raise ConfigError((problem,))
    try:
        return Config.model_validate(located.data)
    except ValidationError as err:
        problems = tuple(_problem(file, e, located) for e in err.errors(include_url=False))
        raise ConfigError(tuple(sorted(set(problems), key=lambda p: (p.line, p.key)))) from err


def load_config(path: Path) -> Config:
    """Read and validate a configuration file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        problem = ConfigProblem(str(path), 0, "(file)", str(err.strerror), "a readable YAML file")
        raise ConfigError((problem,)) from err
    except UnicodeDecodeError as err:
        problem = ConfigProblem(str(path), 0, "(file)", "not UTF-8", "YAML text in UTF-8")
        raise ConfigError((problem,)) from err
    return parse_config(text, str(path))


def config_schema() -> dict[str, Any]:
    """JSON Schema of the configuration, for editors."""
    return TypeAdapter(Config).json_schema()
