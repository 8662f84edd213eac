"""The metric names, types and labels are a public contract: change them additively only."""

from __future__ import annotations

from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from streamguard.telemetry.metrics import Metrics

# name: (type, labels), which users rely on.
CONTRACT = {
    "streamguard_windows_total": ("counter", ("source", "outcome")),
    "streamguard_windows_dropped_total": ("counter", ("source", "reason")),
    "streamguard_window_latency_seconds": ("histogram", ("stage",)),
    "streamguard_audio_lost_seconds_total": ("counter", ("source",)),
    "streamguard_source_up": ("gauge", ("source",)),
    "streamguard_source_last_audio_timestamp_seconds": ("gauge", ("source",)),
    "streamguard_source_restarts_total": ("counter", ("source", "reason")),
    "streamguard_calls_active": ("gauge", ("source",)),
    "streamguard_alerts_total": ("counter", ("source", "kind")),
    "streamguard_verdict_rejections_total": ("counter", ("source", "reason")),
    "streamguard_window_llr": ("histogram", ("source", "trunk", "codec")),
    "streamguard_legs_total": ("counter", ("source", "trunk", "codec", "state")),
    "streamguard_batch_size": ("histogram", ()),
    "streamguard_inference_queue_depth": ("gauge", ()),
    "streamguard_realtime_factor": ("gauge", ()),
    "streamguard_event_loop_lag_seconds": ("gauge", ()),
    "streamguard_mqtt_connected": ("gauge", ()),
    "streamguard_mqtt_outbox_depth": ("gauge", ()),
    "streamguard_mqtt_publish_seconds": ("histogram", ()),
    "streamguard_mqtt_dropped_total": ("counter", ("kind",)),
}
INFO = {"streamguard_engine_info", "streamguard_build_info"}


def populated() -> Metrics:
    """Every metric with one series."""
    metrics = Metrics()
    for value in vars(metrics).values():
        if not isinstance(value, MetricWrapperBase):
            continue
        series = value.labels(*("x" for _ in value._labelnames)) if value._labelnames else value
        if isinstance(series, Counter):
            series.inc()
        elif isinstance(series, Histogram):
            series.observe(0.01)
    metrics.engine_info.info({"target": "cpu-fp32"})
    metrics.build_info.info({"version": "0.1.0"})
    return metrics


def exposed() -> dict[str, tuple[str, tuple[str, ...]]]:
    found = {}
    for family in text_string_to_metric_families(populated().render().decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {key for sample in family.samples for key in sample.labels} - {"le"}
        found[name] = (family.type, tuple(sorted(labels)))
    return found


def test_exactly_the_metrics_of_the_contract_are_exposed() -> None:
    expected = {name: (kind, tuple(sorted(labels))) for name, (kind, labels) in CONTRACT.items()}
    found = exposed()
    assert {name: found[name] for name in found if name not in INFO} == expected
    assert set(found) - set(CONTRACT) == INFO


def test_labels_come_in_the_order_that_positional_use_relies_on() -> None:
    metrics = Metrics()
    for name, (_, labels) in CONTRACT.items():
        attribute = getattr(metrics, name.removeprefix("streamguard_"))
        assert attribute._labelnames == labels, name


def test_no_label_can_name_a_call_or_a_peer() -> None:
    labels = {label for _, names in CONTRACT.values() for label in names}
    assert labels == {
        "source", "outcome", "reason", "stage", "kind", "trunk", "codec", "state",
    }  # fmt: skip


def test_latency_buckets_resolve_five_milliseconds_to_five_seconds() -> None:
    text = populated().render().decode()
    assert 'streamguard_window_latency_seconds_bucket{le="0.005",stage="x"}' in text
    assert 'streamguard_window_latency_seconds_bucket{le="0.5",stage="x"}' in text
    assert 'streamguard_window_latency_seconds_bucket{le="5.0",stage="x"}' in text
