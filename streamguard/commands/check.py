"""``streamguard check``: is the configuration usable, and what will it do, in words."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from streamguard.audio.prompts import PromptBook
from streamguard.config import Config, load_config
from streamguard.console import say_json, terminal
from streamguard.facts import Judging
from streamguard.inference.pair import open_models
from streamguard.policy import Policy
from streamguard.scoring import pair_names
from streamguard.settings import secrets_in
from streamguard.sources.audiosocket_settings import AudioSocketSettings
from streamguard.sources.media_ws_settings import MediaWsSettings
from streamguard.sources.pcap_settings import PcapSettings
from streamguard.sources.settings import FileSettings, MicSettings, RtpSettings, SourceSettings
from streamguard.sources.siprec_settings import SiprecSettings
from streamguard.verdict.describe import CHANNEL_NAMES, WARNING, describe_rule


def check(config_path: Path, *, as_json: bool) -> int:
    """0 if a daemon would start with it. Raises ConfigError, BundleError, EngineError."""
    config = load_config(config_path)
    models = open_models(pair_names(config))
    try:
        judging = Judging.of(config, models)
        PromptBook.open(config.gate.prompts)
        Policy.of(config.policy, config_path)
    finally:
        models.close()
    rule = describe_rule(config.verdict, judging.calibrations, config.prior)
    warnings = [line.removeprefix(WARNING) for line in rule if line.startswith(WARNING)]
    if config.mqtt is None:
        warnings.append("no mqtt section: alerts wait in the outbox and reach nobody")
    else:
        warnings += config.mqtt.warnings()
    warnings += _file_warnings(config)
    for source in config.sources:
        warnings += _source_warnings(source)
    words = [line for line in rule if not line.startswith(WARNING)]
    if as_json:
        say_json(_as_json(config, config_path, judging, words, warnings))
    else:
        _print(config, config_path, judging, words, warnings)
    return 0


def _file_warnings(config: Config) -> list[str]:
    """Secrets and certificates that this user cannot read; the daemon's user perhaps can."""
    warnings = []
    for secret in secrets_in(config):
        if secret.env is None:  # the environment of a service is not the one of this terminal
            try:
                secret.read()
            except ValueError as err:
                warnings.append(str(err))
    tls = config.mqtt.tls if config.mqtt is not None else None
    if tls is not None:
        warnings += _unreadable("mqtt.tls", (tls.ca, tls.cert, tls.key))
    for source in config.sources:
        if isinstance(source, MediaWsSettings) and source.tls is not None:
            warnings += _unreadable(f"source {source.name}: tls", (source.tls.cert, source.tls.key))
    return warnings


def _unreadable(key: str, paths: tuple[Path | None, ...]) -> list[str]:
    warnings = []
    for path in paths:
        if path is not None:
            try:
                path.open("rb").close()
            except OSError as err:
                warnings.append(f"{key}: cannot read {path} ({err.strerror})")
    return warnings


def _source_warnings(source: SourceSettings) -> list[str]:
    if isinstance(source, RtpSettings):
        family = socket.AF_INET if source.host.version == 4 else socket.AF_INET6
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.bind((str(source.host), 0))
        except OSError as err:
            return [f"source {source.name}: cannot listen on {source.host} here: {err.strerror}"]
    if isinstance(source, MediaWsSettings | SiprecSettings):
        return list(source.warnings())
    if isinstance(source, FileSettings | PcapSettings):
        return [f"source {source.name}: no such file: {p}" for p in source.paths if not p.exists()]
    return []


def source_text(source: SourceSettings) -> str:
    """One source in words."""
    match source:
        case RtpSettings():
            ports = source.ports
            where = str(ports[0])
            if len(ports) > 1:
                where = f"{ports[0]}-{ports[-1]} ({len(ports)} ports)"
            return f"RTP on {source.host}, UDP {where}, role {source.role}"
        case AudioSocketSettings():
            return f"AudioSocket on {source.listen}, role {source.role}"
        case MediaWsSettings():
            entries = ", ".join(f"{entry.dialect} {entry.path}" for entry in source.paths)
            secure = "TLS" if source.tls else "no TLS"
            return f"WebSockets on {source.listen} ({secure}): {entries}"
        case SiprecSettings():
            places = ", ".join(map(str, source.listen))
            known = (
                "peers log in" if source.digest else f"from {len(source.allow) or 'any'} network(s)"
            )
            return f"SIPREC on {places} ({known}), at most {source.max_calls} calls"
        case FileSettings() | PcapSettings():
            pace = "as fast as possible" if source.speed == 0 else f"{source.speed:g}x"
            what = "file" if isinstance(source, FileSettings) else "capture"
            return f"{len(source.paths)} {what}(s), {pace}{', looped' if source.loop else ''}"
        case MicSettings():
            return f"sound card {source.device if source.device is not None else '(default)'}"


def _as_json(
    config: Config, path: Path, judging: Judging, words: list[str], warnings: list[str]
) -> dict[str, Any]:
    return {
        "config": str(path),
        "ok": True,
        "node": config.node,
        "sources": [
            {"name": s.name, "type": s.type, "text": source_text(s)} for s in config.sources
        ],
        **judging.as_json(),
        "rule_in_words": words,
        "warnings": warnings,
    }


def _print(
    config: Config, path: Path, judging: Judging, words: list[str], warnings: list[str]
) -> None:
    console = terminal()
    console.print(f"[green]ok[/]  {escape(str(path))}: node {config.node}")
    console.print("[bold]sources[/]")
    for source in config.sources:
        console.print(f"  {source.name}: {escape(source_text(source))}")
    console.print("[bold]models[/]")
    attribution = judging.attribution
    for task, facts in (("detector", judging.detector), ("attribution", attribution)):
        text = f"{facts.name} {facts.version} ({facts.sha256[:12]})" if facts else "none"
        console.print(f"  {task}: {text}")
    console.print(
        f"  engine: {judging.engine.target}: asked for {judging.requested.provider} "
        f"{judging.requested.precision}, got {judging.engine.provider} {judging.engine.precision}"
    )
    if judging.attribution_engine and judging.attribution_engine != judging.engine:
        console.print(f"  attribution runs on {judging.attribution_engine.target}")
    console.print("[bold]rule[/]")
    _print_rule(console, words)
    if config.mqtt is not None:
        console.print("[bold]alerts[/]")
        secure = "TLS" if config.mqtt.tls else "no TLS"
        console.print(
            f"  MQTT {config.mqtt.host}:{config.mqtt.effective_port} ({secure}), topics "
            f"{config.mqtt.prefix}/{config.node}/...; outbox {escape(str(config.outbox.location))}"
        )
    for warning in warnings:
        _paragraph(console, warning, "warning", "yellow")


def _print_rule(console: Console, words: list[str]) -> None:
    """What is said of each channel class, under its name."""
    heading = ""
    for line in words:
        name, _, rest = line.partition(": ")
        if name not in CHANNEL_NAMES.values():
            _paragraph(console, line)
            continue
        if name != heading:
            heading = name
            console.print(f"  {name}")
        _paragraph(console, rest, "   -")


def _paragraph(console: Console, text: str, label: str = "", style: str = "") -> None:
    """A long line, wrapped under its own beginning."""
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(no_wrap=True, style=style)
    row.add_column()
    row.add_row(label, Text(text))
    console.print(row)
