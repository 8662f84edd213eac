"""The same capture gives the same alerts: played twice at once, and at four times its speed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamguard.alerts.outbox import Outbox
from streamguard.app import Daemon
from streamguard.config import Config
from tests.captures import narrow, sip_call, tone
from tests.commands.bundles import naming_bundle
from tests.e2e.bundles import opinionated_bundle
from tools.capture_writer import Captured, write_pcap
from tools.sip_call import SipCall

pytestmark = [pytest.mark.peer, pytest.mark.timeout(60)]

OF_THE_RUN = {"time", "first_seen", "last_seen", "latency_ms"}
"""Fields with a time in them."""
IDS = {"id", "alert_id", "call_id", "leg"}


def make_capture(folder: Path, speech: Path) -> Path:
    """Two calls that overlap, with jitter and lost packets: three voices and a tone."""
    voice = narrow(speech)
    second = SipCall(
        call_id="second",
        caller_media=("192.0.2.3", 42_000),
        callee_media=("192.0.2.4", 52_000),
        payload_types=(0,),
    )
    random = np.random.default_rng(3)
    frames = [*sip_call(voice, voice[4_000:]), *sip_call(voice[::-1], tone(5.0), second, 1.03)]
    arrived = [
        Captured(frame.time_s + float(random.uniform(0, 0.03)), frame.data)
        for frame in frames
        if b"SIP/2.0" in frame.data or random.uniform() > 0.02
    ]
    path = folder / "calls.pcap"
    write_pcap(path, sorted(arrived, key=lambda frame: frame.time_s), link_type=101)
    return path


def alerts_of(folder: Path, bundles: Path, capture: Path, speed: float) -> list[bytes]:
    """Run a daemon to the end of the capture; what it would publish."""
    folder.mkdir()
    outbox = folder / "outbox.sqlite3"
    config = Config.model_validate(
        {
            "node": "node1",
            "sources": [{"name": "tap", "type": "pcap", "paths": [capture], "speed": speed}],
            "detector": str(bundles / "detector"),
            "attribution": str(bundles / "attribution"),
            "alerts": {"min_update_interval_s": 0.5, "update_llr_step": 0.001},
            "outbox": {"path": str(outbox)},
            "http": {"listen": None},
            "log": {"level": "warning"},
        }
    )

    async def run() -> None:
        daemon = Daemon(config, folder / "config.yaml")
        await daemon.serve()
        assert not daemon.failed

    asyncio.run(run())
    left = Outbox(outbox, 1_000, 0)
    left.open()
    try:
        return [message.payload for message in left.queued(1_000)]
    finally:
        left.close()


def without_times_and_ids(payloads: Sequence[bytes]) -> list[list[str]]:
    """By alert, in the order of what they say; of an alert, in the order of its revisions."""
    alerts: dict[str, list[str]] = {}
    for payload in payloads:
        event: dict[str, Any] = json.loads(payload)
        alert = event["data"]["alert_id"]
        for fields in (event, event["data"]):
            for name in (OF_THE_RUN | IDS) & fields.keys():
                fields[name] = None
        event["subject"] = event["subject"].split("/")[2:]
        alerts.setdefault(alert, []).append(json.dumps(event, sort_keys=True))
    return sorted(alerts.values())


def test_the_same_capture_gives_the_same_alerts_at_any_speed(
    tmp_path: Path, short_speech: Path
) -> None:
    pytest.importorskip("onnx", reason="needs the onnx package (extra 'train')")
    bundles = tmp_path / "bundles"
    opinionated_bundle(bundles / "detector", 2.0, 20.0)
    naming_bundle(bundles / "attribution", 9.0, 9.0)
    capture = make_capture(tmp_path, short_speech)
    runs = [
        without_times_and_ids(alerts_of(tmp_path / name, bundles, capture, speed))
        for name, speed in (("first", 0.0), ("second", 0.0), ("fourfold", 4.0))
    ]
    first = [json.loads(alert[0])["data"] for alert in runs[0]]
    assert sorted(data["leg_role"] for data in first) == ["callee", "caller", "caller"]
    assert all(data["codec"] == "PCMU" for data in first)
    assert all(data["quality"]["loss_pct"] > 0 for data in first)
    assert all(len(alert) >= 3 for alert in runs[0])
    assert runs[1] == runs[0]
    assert runs[2] == runs[0]
