"""``streamguard devices`` and ``streamguard models``: what is here to be named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from streamguard.console import complain, say, say_json
from streamguard.errors import BundleError, MissingExtraError, SourceError
from streamguard.inference.bundle import Bundle, find_bundle, load_bundle
from streamguard.resources import packaged_bundles, packaged_targets
from streamguard.verdict.calibration import ChannelCalibration


def devices(*, as_json: bool) -> int:
    """Sound cards (with the extra ``mic``), inference providers, engine targets."""
    found = _devices()
    if as_json:
        say_json(found)
        return 0
    say("Inference providers: " + ", ".join(found["providers"]))
    say("Engine targets:      " + ", ".join(found["targets"]))
    if found["microphones_error"]:
        complain(f"Microphones: {found['microphones_error']}")
        return 0
    say("Microphones:" if found["microphones"] else "Microphones:         none found")
    for device in found["microphones"]:
        say(
            f"  {device['index']:>3}  {device['name']}  "
            f"({device['channels']} channels, {device['default_rate_hz']} Hz)"
        )
    return 0


def _devices() -> dict[str, Any]:
    import onnxruntime

    from streamguard.sources.mic import list_devices

    error = None
    microphones: list[dict[str, Any]] = []
    try:
        microphones = [
            {
                "index": d.index,
                "name": d.name,
                "channels": d.channels,
                "default_rate_hz": d.default_rate_hz,
            }
            for d in list_devices()
        ]
    except (MissingExtraError, SourceError) as err:
        error = str(err)
    return {
        "providers": list(onnxruntime.get_available_providers()),
        "targets": list(packaged_targets()),
        "microphones": microphones,
        "microphones_error": error,
    }


def models(*, as_json: bool) -> int:
    """Every packaged bundle, verified; 1 if one of them is broken."""
    bundles: list[Bundle] = []
    broken: list[dict[str, str]] = []
    for name in packaged_bundles():
        try:
            bundles.append(load_bundle(find_bundle(name)))
        except BundleError as err:
            broken.append({"name": name, "error": str(err)})
    if as_json:
        say_json({"models": [_model_json(bundle) for bundle in bundles], "broken": broken})
    else:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("name", "version", "task", "precisions", "calibrated for", "sha256"):
            table.add_column(column)
        for bundle in bundles:
            facts = _model_json(bundle)
            table.add_row(
                facts["name"],
                facts["version"],
                facts["task"],
                ", ".join(facts["precisions"]),
                ", ".join(facts["channels"]),
                facts["sha256"][:12],
            )
        Console().print(table)
        for line in (line for bundle in bundles for line in _false_alarms(bundle)):
            say(line)
        for problem in broken:
            complain(f"broken: {problem['name']}: {problem['error']}")
    return 1 if broken else 0


def _false_alarms(bundle: Bundle) -> Iterator[str]:
    """What the default rule is expected to raise for nothing, where that was counted."""
    for precision, channels in bundle.calibrations.items():
        for channel, calibration in channels.items():
            if (seen := calibration.false_alarms) is not None:
                yield (
                    f"{bundle.name} {precision} {channel}: {seen.raised} of {seen.legs} human legs "
                    f"({seen.hours:.2f} h, {seen.speakers} speakers, {seen.sources} sources) "
                    f"raised; per 1,000 call-hours {seen.per_1000_call_hours:.0f}, below "
                    f"{seen.upper_95:.0f} with 95 % confidence (extrapolated)"
                )


def _calibration_json(calibration: ChannelCalibration) -> dict[str, Any]:
    alarms = calibration.false_alarms
    return {
        "exposure": asdict(calibration.exposure),
        "false_alarms": None if alarms is None else asdict(alarms),
    }


def _model_json(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    channels = {channel.value for table in bundle.calibrations.values() for channel in table}
    return {
        "name": manifest.name,
        "version": manifest.version,
        "task": str(manifest.task),
        "precisions": sorted({graph.precision for graph in manifest.graphs.values()}),
        "channels": sorted(channels),
        "calibration": {
            precision: {channel.value: _calibration_json(part) for channel, part in table.items()}
            for precision, table in bundle.calibrations.items()
        },
        "metrics": dict(manifest.metrics),
        "licence": manifest.licence,
        "trained_on": manifest.trained_on,
        "sha256": bundle.sha256,
    }
