"""Every Prometheus metric of streamguard: the names, types and labels are a public contract.

SI units, and no label that names a call, a leg or a peer: the number of series depends on the
configuration, never on the traffic.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

LATENCY_BUCKETS_S: Final = (
    0.005,
    0.010,
    0.020,
    0.035,
    0.050,
    0.075,
    0.100,
    0.150,
    0.250,
    0.500,
    1.0,
    2.0,
    5.0,
)
"""One hop's inference takes 2.5 ms (int8) to 10 ms (fp32) on one thread, so 5 ms is where a healthy
stage begins; steps of 1.3 to 2 up to 250 ms resolve a queue that fills; 0.5 s is the hop, beyond
which a leg falls behind; up to 5 s shows by how much before old audio is dropped."""

PUBLISH_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
"""A broker on the same machine answers in 1 ms, one over a slow link in 0.25 s; 30 s is a broker
that has stopped answering."""

LLR_BUCKETS: Final = (-10.0, -5.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 5.0, 10.0)
BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32)
"""The batch shapes that engines compile."""


class Metrics:
    """One attribute per metric, in a registry of its own (so that two can live in one process)."""

    def __init__(self) -> None:
        # Without this each counter gets a second series "_created", which no contract names.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # as the package ships it
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"streamguard_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"streamguard_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(
                f"streamguard_{name}", text, labels, buckets=buckets, registry=self.registry
            )

        def info(name: str, text: str) -> Info:
            return Info(f"streamguard_{name}", text, registry=self.registry)

        self.windows_total = counter(
            "windows_total", "Windows judged, by outcome (scored, rejected)", "source", "outcome"
        )
        self.windows_dropped_total = counter(
            "windows_dropped_total", "Windows that never reached the model", "source", "reason"
        )
        self.window_latency_seconds = histogram(
            "window_latency_seconds", "Time a window spends in a stage", LATENCY_BUCKETS_S, "stage"
        )
        self.audio_lost_seconds_total = counter(
            "audio_lost_seconds_total", "Audio that was expected and never came", "source"
        )
        self.source_up = gauge("source_up", "1 while the source can receive audio", "source")
        self.source_last_audio_timestamp_seconds = gauge(
            "source_last_audio_timestamp_seconds", "POSIX time of the last audio", "source"
        )
        self.source_restarts_total = counter(
            "source_restarts_total", "Restarts by the supervisor", "source", "reason"
        )
        self.calls_active = gauge("calls_active", "Calls being monitored", "source")
        self.alerts_total = counter(
            "alerts_total", "Alert revisions (raised, updated, cleared)", "source", "kind"
        )
        self.verdict_rejections_total = counter(
            "verdict_rejections_total", "Windows that abstained, by reason", "source", "reason"
        )
        self.window_llr = histogram(
            "window_llr",
            "LLR of the windows that were scored; natural logarithm, positive for spoof",
            LLR_BUCKETS,
            "source",
            "trunk",
            "codec",
        )
        self.legs_total = counter(
            "legs_total", "Legs that ended, by last state", "source", "trunk", "codec", "state"
        )
        self.batch_size = histogram("batch_size", "Hops in one engine call", BATCH_BUCKETS)
        self.inference_queue_depth = gauge(
            "inference_queue_depth", "Blocks waiting for the inference thread"
        )
        self.realtime_factor = gauge(
            "realtime_factor", "Seconds of inference per second of audio, all legs together"
        )
        self.event_loop_lag_seconds = gauge(
            "event_loop_lag_seconds", "Worst delay of the event loop in the last 15 s"
        )
        self.mqtt_connected = gauge("mqtt_connected", "1 while connected to the broker")
        self.mqtt_outbox_depth = gauge("mqtt_outbox_depth", "Alert messages not yet acknowledged")
        self.mqtt_publish_seconds = histogram(
            "mqtt_publish_seconds",
            "From publish to the broker's acknowledgement",
            PUBLISH_BUCKETS_S,
        )
        self.mqtt_dropped_total = counter(
            "mqtt_dropped_total", "Messages never published, by kind", "kind"
        )
        self.engine_info = info("engine", "Models and the engine that runs them, asked and got")
        self.build_info = info("build", "Version of streamguard and of what it runs on")
        self._totals: dict[tuple[str, ...], float] = {}

    def advance(self, counter: Counter, labels: tuple[str, ...], total: float) -> None:
        """Bring a counter up to a total kept elsewhere (``stats()`` of a source or the publisher).

        A total lower than the last one comes from an owner that was restarted: it counts from 0.
        """
        key = (str(counter), *labels)
        last = self._totals.get(key, 0.0)
        self._totals[key] = total
        step = total - last if total >= last else total
        (counter.labels(*labels) if labels else counter).inc(step)

    def forget_source(self, source: str) -> None:
        """Remove the gauges of a source that is no longer configured; its counters stay."""
        for gauge in (
            self.source_up,
            self.source_last_audio_timestamp_seconds,
            self.calls_active,
        ):
            gauge.remove(source)

    def render(self) -> bytes:
        """The text exposition format, as ``CONTENT_TYPE`` says."""
        return generate_latest(self.registry)
