"""Which windows count, and which parts of the clips are measured by themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamguard.verdict.scores import Rejection
from tests.tools.evaluation.makers import collection, item, window
from tests.tools.test_crops import CLIP
from tools.data import Clip
from tools.evaluation.samples import (
    EXACT,
    NO_PROMPTS,
    PAIRED,
    POOLED,
    UNSEEN,
    WIDE,
    all_windows,
    first_windows,
    groups,
    prompt_source,
    reasons,
)
from tools.metrics import Rejected


def test_the_first_accepted_window_of_a_clip_counts() -> None:
    heard = item(CLIP, window(9.0, Rejection.SILENCE), window(1.0), window(7.0))
    silent = item(replace(CLIP, label="spoof"), window(9.0, Rejection.TONE))
    sample = first_windows([heard, silent])
    assert sample.llrs.tolist() == [1.0]
    assert sample.rejected == Rejected(bonafide=0, spoof=1)


def test_every_window_counts_where_all_do_and_so_does_every_rejection() -> None:
    heard = item(CLIP, window(9.0, Rejection.SILENCE), window(1.0), window(7.0))
    sample = all_windows([heard, item(replace(CLIP, label="spoof"), window(2.0))])
    assert sample.llrs.tolist() == [1.0, 7.0, 2.0]
    assert sample.spoof.tolist() == [False, False, True]
    assert sample.rejected == Rejected(bonafide=1, spoof=0)


def test_a_clip_without_a_window_is_a_rejected_clip_and_no_rejected_window() -> None:
    empty = item(CLIP)
    assert first_windows([empty]).rejected == Rejected(bonafide=1)
    assert all_windows([empty]).rejected == Rejected()


def test_a_head_that_says_nothing_of_strangeness_leaves_it_open() -> None:
    sample = first_windows([item(CLIP, window(1.0)), item(CLIP, window(1.0, ood=2.5))])
    assert np.isnan(sample.strangeness[0])
    assert sample.strangeness[1] == 2.5


def narrow(source: str, count: int) -> list[Clip]:
    return [
        replace(CLIP, path=f"{source}{n}", source_repo=source, orig_sr=8000) for n in range(count)
    ]


def test_the_source_of_the_prompts_is_the_one_with_most_narrow_human_clips() -> None:
    spoofed = [replace(CLIP, source_repo="c", orig_sr=8000, label="spoof")] * 90
    assert prompt_source([*narrow("a", 7), *narrow("b", 2), *spoofed]) == "a"


def test_no_source_is_called_prompts_where_none_has_most() -> None:
    assert prompt_source([*narrow("a", 3), *narrow("b", 3)]) is None
    assert prompt_source(narrow("a", 3)) is None
    assert prompt_source([CLIP]) is None


def test_parts_that_are_empty_or_the_whole_are_left_out() -> None:
    clips = [part.clip for part in collection()]
    found = groups(clips, clips, frozenset({"vits"}))
    assert set(found) == {POOLED, PAIRED, UNSEEN}
    assert sum(map(found[PAIRED], clips)) == 40
    assert sum(map(found[UNSEEN], clips)) == 40
    assert UNSEEN not in groups(clips, clips, None)


def test_sets_bands_and_prompts_make_parts() -> None:
    extra = [replace(CLIP, set="extra")] * 5
    clips = [*narrow("a", 5), *narrow("b", 1), *extra, CLIP]
    found = groups(clips, clips, None)
    assert sum(map(found[WIDE], clips)) == 6
    assert [clip.source_repo for clip in clips if found[NO_PROMPTS](clip)] == ["b"]
    assert sum(map(found[EXACT], clips)) == 7
    assert WIDE not in groups([*extra, CLIP, *narrow("b", 4)], clips, None)


def test_clips_that_were_not_scored_say_why() -> None:
    silence, tone = window(None, Rejection.SILENCE), window(None, Rejection.TONE)
    items = [
        item(CLIP, silence, silence, tone),
        item(CLIP, tone),
        item(CLIP, tone, window(1.0)),
        item(CLIP),
    ]
    assert reasons(items) == {"silence": 1, "tone": 1, "shorter than a hop": 1}
