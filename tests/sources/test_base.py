from __future__ import annotations

from streamguard.sources.base import new_id


def test_ids_are_opaque_and_differ() -> None:
    ids = {new_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(one.isalnum() for one in ids)
