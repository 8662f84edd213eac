from __future__ import annotations

from streamguard.telemetry.metrics import Metrics


def lines(metrics: Metrics, name: str) -> list[str]:
    return [row for row in metrics.render().decode().splitlines() if row.startswith(name)]


def test_two_sets_of_metrics_live_side_by_side() -> None:
    first, second = Metrics(), Metrics()
    first.mqtt_connected.set(1)
    assert lines(first, "streamguard_mqtt_connected ") == ["streamguard_mqtt_connected 1.0"]
    assert lines(second, "streamguard_mqtt_connected ") == ["streamguard_mqtt_connected 0.0"]


def test_a_counter_follows_a_total_that_is_kept_elsewhere() -> None:
    metrics = Metrics()
    for total in (3, 3, 5):
        metrics.advance(metrics.mqtt_dropped_total, ("updated",), total)
    metrics.advance(metrics.mqtt_dropped_total, ("stats",), 1)
    assert lines(metrics, "streamguard_mqtt_dropped_total{") == [
        'streamguard_mqtt_dropped_total{kind="updated"} 5.0',
        'streamguard_mqtt_dropped_total{kind="stats"} 1.0',
    ]


def test_a_total_that_starts_again_keeps_counting_up() -> None:
    metrics = Metrics()
    for total in (5.0, 2.0, 4.0):
        metrics.advance(metrics.audio_lost_seconds_total, ("door",), total)
    assert lines(metrics, "streamguard_audio_lost_seconds_total{") == [
        'streamguard_audio_lost_seconds_total{source="door"} 9.0'
    ]


def test_a_forgotten_source_leaves_no_gauge_that_says_it_is_down() -> None:
    metrics = Metrics()
    for source in ("door", "desk"):
        metrics.source_up.labels(source).set(1)
        metrics.calls_active.labels(source).set(2)
    metrics.forget_source("door")
    metrics.forget_source("never seen")
    assert lines(metrics, "streamguard_source_up{") == ['streamguard_source_up{source="desk"} 1.0']
    assert lines(metrics, "streamguard_calls_active{") == [
        'streamguard_calls_active{source="desk"} 2.0'
    ]


def test_a_hostile_source_name_cannot_forge_a_line() -> None:
    metrics = Metrics()
    metrics.source_up.labels('x"} 1\nstreamguard_mqtt_connected 1').set(1)
    assert lines(metrics, "streamguard_mqtt_connected") == ["streamguard_mqtt_connected 0.0"]
