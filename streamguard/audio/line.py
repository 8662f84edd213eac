"""What channel class a leg's codec makes it, whatever its bandwidth."""

from __future__ import annotations

from streamguard.verdict.scores import Channel

LOW_RATE = frozenset(
    {
        *("GSM", "GSM-EFR", "GSM-HR", "AMR", "AMR-WB", "AMR-WB+"),
        *("SPEEX", "ILBC", "G723", "G723.1", "G728", "G729", "G729A", "G729D", "G729E"),
        *("EVRC", "EVRC0", "EVRC1", "EVRCB", "EVRCB0", "EVRCB1", "EVRCWB", "QCELP", "SMV"),
        *("LPC", "MELP", "CODEC2"),
    }
)
"""Encoding names of SDP (RFC 4855), upper case: codecs that resynthesise speech from a few kbit/s,
so that what a channel leaves of it is another thing than a band limit."""
VARIABLE_RATE = frozenset({"OPUS", "EVS"})
"""Codecs of any rate. At the low ones they give up the upper band (RFC 6716, section 2.1.3), and
nothing else in SDP or in the packets says what was used."""


def channel_of(codec: str, heard: Channel) -> Channel:
    """The class of a leg with this codec (as in SDP; case and ``/rate`` don't matter).

    ``heard``: wide or narrow, by its rate and its speech.
    """
    name = codec.partition("/")[0].strip().upper()
    if name in LOW_RATE or (name in VARIABLE_RATE and heard is Channel.NARROW):
        return Channel.LOW_RATE
    return heard
