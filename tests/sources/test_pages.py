"""The pages beside the ready configurations speak of what stands in them."""

from __future__ import annotations

import pytest

from streamguard.config import load_config
from streamguard.resources import packaged_config
from streamguard.sources.audiosocket_settings import AudioSocketSettings
from streamguard.sources.media_ws_settings import MediaWsSettings


@pytest.mark.parametrize("name", ["audiosocket", "asterisk", "freeswitch", "media_ws"])
def test_a_page_names_its_configuration_and_every_address_and_path(name: str) -> None:
    path = packaged_config(name)
    page = path.with_suffix(".md").read_text(encoding="utf-8")
    assert path.name in page
    checked = 0
    for source in load_config(path).sources:
        if isinstance(source, AudioSocketSettings):
            assert source.listen in page
            checked += 1
        if isinstance(source, MediaWsSettings):
            for entry in source.paths:
                # Where a page shows another spelling, the reader copies what does not fit.
                assert entry.path in page, entry.path
                checked += 1
    assert checked
