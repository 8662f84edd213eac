from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from streamguard.alerts.alert import Acknowledgement, Alert, ClearedReason, Kind
from streamguard.alerts.context import LatencySnapshot, QualitySnapshot
from streamguard.alerts.lifecycle import Lifecycle
from streamguard.alerts.settings import AlertSettings, SeveritySettings
from streamguard.verdict.scores import Attribution, Label, State, Verdict
from tests.alerts.builders import START_UTC, context, counting_ids, verdict


def lifecycle(**settings: object) -> Lifecycle:
    return Lifecycle(AlertSettings.model_validate(settings), counting_ids())


def feed(life: Lifecycle, said: Verdict, *, muted: bool = False) -> Alert | None:
    leg = context(leg=said.leg)
    return life.verdict(leg, said, QualitySnapshot(), LatencySnapshot(), muted=muted)


def test_a_spoof_verdict_raises_once() -> None:
    life = lifecycle()
    raised = feed(life, verdict(offset_s=3.0))
    assert raised is not None
    assert (raised.kind, raised.revision, raised.at_utc) == (Kind.RAISED, 1, START_UTC + 3.0)
    assert feed(life, verdict(offset_s=30.0)) is None
    assert life.open_alerts() == (raised,)


def test_suspect_raises_only_where_configured() -> None:
    assert feed(lifecycle(), verdict(State.SUSPECT)) is None
    raised = feed(lifecycle(raise_on_suspect=True), verdict(State.SUSPECT))
    assert raised is not None
    assert raised.severity == 3


def test_news_is_told_but_not_more_often_than_every_five_seconds_of_audio() -> None:
    life = lifecycle(update_llr_step=1.0)
    feed(life, verdict(offset_s=3.0, llr=3.0))
    assert feed(life, verdict(offset_s=7.5, llr=9.0)) is None
    updated = feed(life, verdict(offset_s=8.0, llr=9.0))
    assert updated is not None
    assert (updated.kind, updated.revision) == (Kind.UPDATED, 2)
    assert feed(life, verdict(offset_s=20.0, llr=9.5)) is None


def test_an_attribution_that_arrives_is_news() -> None:
    life = lifecycle()
    feed(life, verdict(offset_s=3.0))
    named = Attribution(technology=Label("vocoder", 0.4))
    updated = feed(life, verdict(offset_s=9.0, attribution=named))
    assert updated is not None
    assert updated.kind is Kind.UPDATED


def test_severity_rises_and_never_falls_within_an_alert() -> None:
    life = lifecycle()
    feed(life, verdict(offset_s=3.0, llr=3.0))
    strong = feed(life, verdict(offset_s=9.0, llr=6.0))
    weaker = feed(life, verdict(State.SUSPECT, offset_s=15.0, llr=1.0))
    assert strong is not None
    assert weaker is not None
    assert (strong.severity, weaker.severity) == (5, 5)


def test_evidence_clears_after_the_dwell_and_not_before() -> None:
    life = lifecycle(min_dwell_s=6.0)
    feed(life, verdict(offset_s=3.0))
    assert feed(life, verdict(State.BONAFIDE, offset_s=8.5, llr=-3.0)) is None
    cleared = feed(life, verdict(State.BONAFIDE, offset_s=9.0, llr=-3.0))
    assert cleared is not None
    assert (cleared.kind, cleared.cleared_reason) == (Kind.CLEARED, ClearedReason.EVIDENCE)
    assert life.open_alerts() == ()


def test_a_voice_that_begins_anew_is_no_evidence_and_keeps_the_alert_open() -> None:
    life = lifecycle()
    feed(life, verdict(offset_s=3.0))
    feed(life, verdict(State.UNKNOWN, offset_s=60.0, llr=0.0))
    assert len(life.open_alerts()) == 1


def test_evidence_at_the_clear_level_clears_without_being_bona_fide() -> None:
    life = lifecycle(min_dwell_s=6.0)
    feed(life, verdict(offset_s=3.0))
    assert feed(life, verdict(State.UNKNOWN, offset_s=8.5, llr=-0.1, clear=True)) is None
    cleared = feed(life, verdict(State.UNKNOWN, offset_s=9.0, llr=-0.1, clear=True))
    assert cleared is not None
    assert (cleared.kind, cleared.cleared_reason) == (Kind.CLEARED, ClearedReason.EVIDENCE)
    assert life.open_alerts() == ()


def test_a_leg_that_ends_closes_its_alert_with_what_was_last_heard() -> None:
    life = lifecycle()
    feed(life, verdict(offset_s=3.0))
    feed(life, verdict(offset_s=40.0, llr=3.6))
    cleared = life.end_leg("leg1", ClearedReason.CALL_ENDED, START_UTC + 41.0)
    assert cleared is not None
    assert cleared.revision == 2
    assert cleared.verdict.offset_s == 40.0
    assert life.end_leg("leg1", ClearedReason.CALL_ENDED, START_UTC + 42.0) is None


def test_time_never_runs_backwards_within_an_alert() -> None:
    life = lifecycle()
    raised = feed(life, verdict(offset_s=3.0))
    cleared = life.end_leg("leg1", ClearedReason.SHUTDOWN, START_UTC - 99.0)
    assert raised is not None
    assert cleared is not None
    assert cleared.at_utc >= raised.at_utc


def test_a_lost_source_closes_only_its_own_alerts() -> None:
    life = lifecycle()
    quality, latency = QualitySnapshot(), LatencySnapshot()
    life.verdict(context("a", "trunk"), verdict(leg="a"), quality, latency)
    life.verdict(context("b", "desk"), verdict(leg="b"), quality, latency)
    cleared = life.end_source("trunk", START_UTC + 9.0)
    assert [(a.context.leg, a.cleared_reason) for a in cleared] == [
        ("a", ClearedReason.SOURCE_LOST)
    ]
    assert [a.context.leg for a in life.open_alerts()] == ["b"]


def test_a_muted_raise_is_counted_once_and_comes_when_the_rule_has_run_out() -> None:
    life = lifecycle()
    assert feed(life, verdict(offset_s=3.0), muted=True) is None
    assert feed(life, verdict(offset_s=3.5), muted=True) is None
    assert life.suppressed == {"trunk": 1}
    raised = feed(life, verdict(offset_s=4.0))
    assert raised is not None
    assert raised.revision == 1


def test_a_muted_alert_still_ends_in_a_cleared() -> None:
    life = lifecycle()
    feed(life, verdict(offset_s=3.0))
    assert feed(life, verdict(offset_s=9.0, llr=9.0), muted=True) is None
    cleared = life.end_leg("leg1", ClearedReason.CALL_ENDED, START_UTC + 10.0)
    assert cleared is not None
    assert cleared.revision == 2


def test_an_acknowledgement_is_told_at_once_and_stays() -> None:
    life = lifecycle()
    feed(life, verdict(offset_s=3.0))
    who = Acknowledgement("op7", "called back", START_UTC + 3.1)
    updated = life.acknowledge("alert1", who)
    assert updated is not None
    assert (updated.kind, updated.acknowledged) == (Kind.UPDATED, who)
    cleared = life.end_leg("leg1", ClearedReason.CALL_ENDED, START_UTC + 10.0)
    assert cleared is not None
    assert cleared.acknowledged == who
    assert life.acknowledge("alert1", who) is None


def test_the_severity_mapping_is_the_configured_one() -> None:
    settings = AlertSettings(severity=SeveritySettings(suspect=1, spoof=2, strong_spoof=6))
    life = Lifecycle(settings, counting_ids())
    raised = feed(life, verdict(llr=20.0))
    assert raised is not None
    assert raised.severity == 6


_STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(("a", "b", "c")),
            st.sampled_from(State),
            st.floats(0.5, 8.0),
            st.floats(-9.0, 9.0),
            st.booleans(),
        ),
        st.sampled_from(("end a", "end b", "lost", "changed", "ack")),
    ),
    max_size=60,
)


@given(steps=_STEPS, suspect=st.booleans())
def test_any_history_gives_well_formed_alerts(steps: list[object], suspect: bool) -> None:
    """Per alert: raised first, revisions 1, 2, 3 ..., one cleared, last; one open per leg."""
    life = lifecycle(raise_on_suspect=suspect, min_update_interval_s=2.0)
    told: list[Alert | None] = []
    offset_s = 0.0
    for step in steps:
        match step:
            case "lost":
                told += life.end_source("trunk", START_UTC + offset_s)
            case "changed":
                told += life.end_all(ClearedReason.MODEL_CHANGED, START_UTC + offset_s)
            case "ack":
                who = Acknowledgement("op", "", START_UTC + offset_s)
                told += [life.acknowledge(a.alert_id, who) for a in life.open_alerts()]
            case str():
                leg = step.removeprefix("end ")
                told.append(life.end_leg(leg, ClearedReason.CALL_ENDED, START_UTC + offset_s))
            case (str(leg), State() as state, float(ahead_s), float(llr), bool(muted)):
                offset_s += ahead_s
                told.append(feed(life, verdict(state, offset_s, llr, leg), muted=muted))
    told += life.end_all(ClearedReason.SHUTDOWN, START_UTC + offset_s)

    open_by_leg: dict[str, Alert] = {}
    closed: set[str] = set()
    for alert in told:
        if alert is None:
            continue
        leg = alert.context.leg
        assert alert.alert_id not in closed
        assert 1 <= alert.severity <= 6
        if alert.kind is Kind.RAISED:
            assert leg not in open_by_leg
            assert alert.revision == 1
        else:
            before = open_by_leg[leg]
            assert (alert.alert_id, alert.revision) == (before.alert_id, before.revision + 1)
            assert alert.at_utc >= before.at_utc
            assert alert.severity >= before.severity
        assert (alert.cleared_reason is not None) == (alert.kind is Kind.CLEARED)
        open_by_leg[leg] = alert
        if alert.kind is Kind.CLEARED:
            closed.add(alert.alert_id)
            del open_by_leg[leg]
    assert open_by_leg == {}
    assert life.open_alerts() == ()


def test_a_role_learnt_later_is_news() -> None:
    life = lifecycle()
    feed(life, verdict(offset_s=3.0))
    leg = replace(context(), role=context().role.CALLEE)
    updated = life.verdict(leg, verdict(offset_s=9.0), QualitySnapshot(), LatencySnapshot())
    assert updated is not None
    assert updated.context.role.value == "callee"
