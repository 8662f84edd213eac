"""The sequential rule: a leg's LLR against its boundaries, with hysteresis."""

from __future__ import annotations

from streamguard.verdict.scores import State


def sequential_state(
    before: State,
    llr: float,
    *,
    raise_llr: float,
    accept_llr: float,
    suspect_llr: float,
    clear_llr: float,
    may_clear: bool,
) -> State:
    """The state after a look. Levels: raise >= suspect > clear >= accept.

    Reaching a boundary decides; a decision is kept until the LLR passes the clear level, from
    above for SPOOF (and then only if ``may_clear``) and SUSPECT, from below for BONAFIDE. What lies
    between and was never decided is UNKNOWN, however long the leg: audio that can't tell is not
    called bona fide.
    """
    if llr >= raise_llr or (before is State.SPOOF and (llr > clear_llr or not may_clear)):
        return State.SPOOF
    if llr >= suspect_llr or (before is State.SUSPECT and llr > clear_llr):
        return State.SUSPECT
    if llr <= accept_llr or (before is State.BONAFIDE and llr <= clear_llr):
        return State.BONAFIDE
    return State.UNKNOWN
