from __future__ import annotations

import importlib.util
import socket
import time

import aiomqtt
import pytest

from streamguard.demo.broker import running_broker
from streamguard.demo.child import Child
from streamguard.demo.legs import DemoError
from streamguard.demo.subscriber import running_subscriber

needs_amqtt = pytest.mark.skipif(
    importlib.util.find_spec("amqtt") is None, reason="the extra 'demo' is not installed"
)


@needs_amqtt
async def test_an_alert_goes_through_broker_and_subscriber_in_their_own_processes() -> None:
    before = time.monotonic()
    async with running_broker() as port, running_subscriber(port) as subscriber:
        async with aiomqtt.Client(
            "127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V311
        ) as client:
            await client.publish("streamguard/n/source/door/alert", b'{"a": 1}', qos=1)
            await client.publish("streamguard/n/stats", b"not an alert", qos=1)
            await client.publish("streamguard/n/source/door/alert", b"no \xff json", qos=1)
        messages = subscriber.messages()
        first, second = await anext(messages), await anext(messages)
        await messages.aclose()  # type: ignore[attr-defined]  # an async generator
    assert (first.topic, first.payload) == ("streamguard/n/source/door/alert", {"a": 1})
    assert not first.retained
    assert before < first.monotonic <= second.monotonic <= time.monotonic()
    assert second.payload == "no \ufffd json"


async def test_a_subscriber_without_a_broker_says_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(DemoError, match=f"broker 127.0.0.1:{port}"):
            async with running_subscriber(port):
                pass


@needs_amqtt
async def test_a_broker_whose_port_is_taken_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        child = await Child.start("streamguard.demo.broker", "--port", str(taken.getsockname()[1]))
        with pytest.raises(DemoError, match="address"):
            await child.expect("ready", 10.0)
        await child.stop()
