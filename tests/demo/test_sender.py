from __future__ import annotations

import json
import random
import signal
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.audio import g711
from streamguard.demo.legs import DemoError, DemoLeg, Mark, MarkKind, Truth, save_legs
from streamguard.demo.sender import (
    Clock,
    Sent,
    Stream,
    goodbye,
    main,
    plan,
    running_sender,
    send,
)

STREAM = Stream(ssrc=0xDEADBEEF, sequence=65_534, timestamp=2**32 - 200)


def leg(samples: int = 800, marks: Sequence[Mark] = (), codec: str = "PCMU") -> DemoLeg:
    values = np.random.default_rng(1).integers(-9000, 9000, samples).astype(np.int16)
    return DemoLeg("a", Truth.HUMAN, codec, values, "", tuple(marks))


def fields(packet: bytes) -> tuple[int, bool, int, int, int, bytes]:
    first, second, sequence, timestamp, ssrc = struct.unpack("!BBHII", packet[:12])
    assert first == 0x80
    return second & 0x7F, bool(second & 0x80), sequence, timestamp, ssrc, packet[12:]


def test_packets_are_20_ms_apart_and_wrap_both_counters() -> None:
    packets = list(plan(leg(800), STREAM))
    assert [round(p.due_s * 1000) for p in packets] == [0, 20, 40, 60, 80]
    read = [fields(p.data) for p in packets]
    assert [r[2] for r in read] == [65_534, 65_535, 0, 1, 2]
    assert [r[3] for r in read] == [(2**32 - 200 + 160 * k) % 2**32 for k in range(5)]
    assert {r[4] for r in read} == {0xDEADBEEF}
    assert [r[1] for r in read] == [True, False, False, False, False]


@pytest.mark.parametrize(("codec", "payload_type"), [("PCMU", 0), ("PCMA", 8)])
def test_the_payload_is_the_samples_and_the_end_is_filled_up(codec: str, payload_type: int) -> None:
    source = leg(350, codec=codec)
    read = [fields(p.data) for p in plan(source, STREAM)]
    assert {r[0] for r in read} == {payload_type}
    decode = g711.decode_ulaw if codec == "PCMU" else g711.decode_alaw
    heard = decode(b"".join(r[5] for r in read))
    assert len(heard) == 480
    assert np.abs(heard[:350] - source.samples.astype(int)).max() <= 9000 / 16
    assert np.abs(heard[350:]).max() <= 8


def test_comfort_noise_replaces_audio_every_200_ms_and_speech_returns_with_a_marker() -> None:
    quiet = Mark(MarkKind.COMFORT_NOISE, 160, 160 * 11, 60)
    read = [fields(p.data) for p in plan(leg(160 * 13, [quiet]), STREAM)]
    assert [(r[0], r[1]) for r in read] == [(0, True), (13, False), (13, False), (0, True)]
    assert read[1][5] == bytes([60])
    assert (read[2][3] - read[1][3]) % 2**32 == 1600
    assert [r[2] for r in read] == [65_534, 65_535, 0, 1]  # what isn't sent has no number


def test_an_event_keeps_its_timestamp_grows_and_ends_three_times() -> None:
    digit = Mark(MarkKind.EVENT, 160, 480, 11)
    read = [fields(p.data) for p in plan(leg(800, [digit]), STREAM)]
    events = [r for r in read if r[0] == 101]
    assert [r[1] for r in events] == [True, False, False, False, False]
    assert {r[3] for r in events} == {(2**32 - 200 + 160) % 2**32}
    assert [struct.unpack("!BBH", r[5]) for r in events] == [
        (11, 10, 160),
        (11, 10, 320),
        (11, 0x80 | 10, 480),
        (11, 0x80 | 10, 480),
        (11, 0x80 | 10, 480),
    ]
    assert [r[2] for r in read] == [(65_534 + k) % 65_536 for k in range(7)]
    assert [r[1] for r in read if r[0] == 0] == [True, False]  # an event is no pause in talk


@given(st.integers(0, 3000), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1))
def test_no_sample_is_left_out_whatever_the_length_and_start(
    samples: int, sequence: int, timestamp: int
) -> None:
    packets = list(plan(leg(samples), Stream(1, sequence, timestamp)))
    assert len(packets) == -(-samples // 160)
    for index, packet in enumerate(packets):
        _, _, number, time, _, payload = fields(packet.data)
        assert number == (sequence + index) % 2**16
        assert time == (timestamp + 160 * index) % 2**32
        assert len(payload) == 160


def test_goodbye_is_a_whole_compound_packet() -> None:
    data = goodbye(0x01020304)
    kinds = []
    while data:
        first, kind, words, ssrc = struct.unpack("!BBHI", data[:8])
        assert first >> 6 == 2
        assert ssrc == 0x01020304
        kinds.append(kind)
        data = data[4 * (words + 1) :]
    assert kinds == [201, 202, 203]


@pytest.mark.parametrize("mark", [(1, 160), (160, 100), (0, 0)])
def test_a_mark_that_is_not_whole_packets_is_refused(mark: tuple[int, int]) -> None:
    with pytest.raises(DemoError, match="whole packets"):
        list(plan(leg(800, [Mark(MarkKind.EVENT, *mark, 1)]), STREAM))


def test_a_codec_that_is_not_g711_is_refused() -> None:
    with pytest.raises(DemoError, match="PCMU or PCMA"):
        list(plan(leg(codec="OPUS"), STREAM))


@contextmanager
def receivers(count: int) -> Iterator[tuple[list[int], list[socket.socket], list[socket.socket]]]:
    """``count`` pairs of neighbouring ports."""
    with ExitStack() as stack:
        ports: list[int] = []
        rtp: list[socket.socket] = []
        rtcp: list[socket.socket] = []
        while len(ports) < count:
            first, second = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
            stack.callback(first.close)
            stack.callback(second.close)
            first.bind(("127.0.0.1", 0))
            try:
                second.bind(("127.0.0.1", first.getsockname()[1] + 1))
            except (OSError, OverflowError):
                continue
            ports.append(first.getsockname()[1])
            rtp.append(first)
            rtcp.append(second)
        yield ports, rtp, rtcp


def received(receiver: socket.socket) -> list[tuple[bytes, int]]:
    """What waits in the socket, with the port that it came from."""
    receiver.setblocking(False)
    found: list[tuple[bytes, int]] = []
    while True:
        try:
            data, address = receiver.recvfrom(2048)
        except BlockingIOError:
            return found
        found.append((data, address[1]))


class FakeTime:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds + 0.004  # every sleep oversleeps

    def clock(self) -> Clock:
        return Clock(lambda: self.now, self.sleep)


def test_legs_are_sent_to_their_ports_each_ending_in_its_own_goodbye() -> None:
    time = FakeTime()
    told: list[Sent] = []
    with receivers(2) as (ports, rtp, rtcp):
        sent = send(
            [leg(800), leg(1600)], "127.0.0.1", ports, random.Random(1), told.extend, time.clock()
        )
        assert [len(received(s)) for s in rtp] == [5, 10]
        byes = [received(s) for s in rtcp]
    assert [one.packets for one in sent] == [5, 10]
    assert told[0].ssrc != told[1].ssrc
    for one, (bye,) in zip(sent, byes, strict=True):
        assert bye[0] == goodbye(one.ssrc)


def test_rtcp_comes_from_the_port_next_to_rtp() -> None:
    with receivers(1) as (ports, rtp, rtcp):
        send([leg(160)], "127.0.0.1", ports, random.Random(1), len, FakeTime().clock())
        ((_, rtp_port),) = received(rtp[0])
        ((_, rtcp_port),) = received(rtcp[0])
    assert rtcp_port == rtp_port + 1


def test_oversleeping_does_not_add_up() -> None:
    time = FakeTime()
    with receivers(1) as (ports, _, _):
        (sent,) = send([leg(16_000)], "127.0.0.1", ports, random.Random(1), len, time.clock())
    assert time.now - 100.0 == pytest.approx(2.0, abs=0.03)
    assert sent.late_ms_max == pytest.approx(4.0, abs=0.1)


def test_an_interrupted_sender_still_says_goodbye() -> None:
    time = FakeTime()

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with receivers(1) as (ports, _, rtcp):
        with pytest.raises(KeyboardInterrupt):
            send(
                [leg(800)],
                "127.0.0.1",
                ports,
                random.Random(1),
                len,
                Clock(lambda: time.now, interrupt),
            )
        assert len(received(rtcp[0])) == 1


def test_the_command_line_plays_a_folder_and_tells_what_it_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_legs(tmp_path, [leg(320)])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with receivers(1) as (ports, rtp, _):
            assert main([str(tmp_path), "--ports", str(ports[0])]) == 0
            assert len(received(rtp[0])) == 2
        sending, done = (json.loads(line) for line in capsys.readouterr().out.splitlines())
        assert (sending["event"], done["event"]) == ("sending", "done")
        assert done["legs"][0]["packets"] == 2
        assert sending["legs"][0]["ssrc"] == done["legs"][0]["ssrc"]
        assert main([str(tmp_path / "nowhere"), "--ports", "9"]) == 1
        assert "nowhere" in capsys.readouterr().err
        with pytest.raises(SystemExit) as exit_:
            main([str(tmp_path), "--ports", "9", "11"])
        assert exit_.value.code == 2
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_the_sender_runs_in_a_process_of_its_own_and_ends_with_its_parent() -> None:
    with receivers(1) as (ports, rtp, rtcp):
        async with running_sender([leg(480)], ports) as child:
            done = await child.expect("done", 10.0)
            assert done["legs"][0]["packets"] == 3
            assert await child.wait() == 0
        assert len(received(rtp[0])) == 3
        assert len(received(rtcp[0])) == 1
        async with running_sender([leg(8000 * 60)], ports):
            pass  # leaving the block is what ends it
        assert len(received(rtcp[0])) == 1
