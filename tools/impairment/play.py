"""Arrivals on their way: through the protocol layer, over UDP, or into a capture."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from streamguard.clock import VirtualClock
from streamguard.events import (
    CallEnded,
    CallStarted,
    EndReason,
    LegEnded,
    LegRole,
    LegStarted,
    Quality,
    SourceEvent,
)
from streamguard.protocols.rtcp import build_bye
from streamguard.protocols.rtp import build_packet
from streamguard.protocols.rtp_codecs import COMFORT_NOISE, DTMF, PCMA, PCMU
from streamguard.protocols.rtp_stream import Reception, RtpStream
from streamguard.sources.base import Emit
from tools.capture_writer import RAW, Captured, Endpoint, udp, write_pcap
from tools.impairment.catalogue import Arrivals
from tools.impairment.stream import PACKET_S, Sent
from tools.sip_call import SipCall

FORMATS = {0: PCMU, 8: PCMA, 13: COMFORT_NOISE, 101: DTMF}
_LEG, _CALL = "leg", "call"
CAPTURE_UTC = 1_700_000_000.0


class ImpairedSource:
    """Plays arrivals to the daemon's own receiver on a virtual clock, as fast as it is heard."""

    def __init__(self, arrivals: Arrivals, clock: VirtualClock) -> None:
        self._arrivals = arrivals
        self._clock = clock
        self._stream = RtpStream(_LEG, FORMATS, Counter(), announced=PCMU)

    @property
    def reception(self) -> Reception:
        """What the receiver counted."""
        return self._stream.reception

    async def run(self, emit: Emit) -> None:
        await emit(CallStarted("impaired", _CALL, 0.0))
        await emit(LegStarted("impaired", _CALL, _LEG, LegRole.UNKNOWN, "PCMU", 8_000, 0.0))
        stream = self._stream
        for one in self._arrivals.packets:
            while (due_s := stream.deadline()) is not None and due_s <= one.at_s:
                await self._say(stream.poll(due_s), due_s, emit)
            await self._say(stream.receive(one.packet, one.at_s), one.at_s, emit)
        end_s = self._clock.monotonic()
        await self._say(stream.flush(), end_s, emit)
        await emit(Quality(_LEG, self.reception.loss_pct, 1_000 * self.reception.jitter_s))
        await emit(LegEnded(_LEG, EndReason.HANGUP, end_s))
        await emit(CallEnded(_CALL, EndReason.HANGUP, end_s))

    async def _say(self, events: Sequence[SourceEvent], at_s: float, emit: Emit) -> None:
        await self._clock.sleep_until(at_s)
        for event in events:
            await emit(event)


def send(
    packets: Sequence[Sent],
    target: Endpoint,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Over UDP in real time, with a BYE on the port above; the worst delay behind the plan (s)."""
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    worst_s = 0.0
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        begin = now()
        for one in packets:
            wait_s = begin + one.at_s - now()
            if wait_s > 0:
                sleep(wait_s)
            worst_s = max(worst_s, -wait_s)
            sock.sendto(build_packet(one.packet), target)
        sleep(PACKET_S)
        sock.sendto(build_bye(packets[-1].packet.ssrc), (target[0], target[1] + 1))
    return worst_s


def capture(path: Path, packets: Sequence[Sent]) -> None:
    """A call of this one voice, with its signalling, as a capture of raw IP."""
    call = SipCall()
    begin = CAPTURE_UTC + 0.1
    frames = [
        Captured(CAPTURE_UTC, udp(call.caller, call.callee, call.invite())),
        Captured(CAPTURE_UTC + 0.05, udp(call.callee, call.caller, call.answer())),
        Captured(CAPTURE_UTC + 0.06, udp(call.caller, call.callee, call.ack())),
    ]
    frames += [
        Captured(
            begin + one.at_s, udp(call.caller_media, call.callee_media, build_packet(one.packet))
        )
        for one in packets
    ]
    end = begin + max((one.at_s for one in packets), default=0.0) + 0.1
    frames.append(Captured(end, udp(call.caller, call.callee, call.bye())))
    write_pcap(path, frames, RAW)
