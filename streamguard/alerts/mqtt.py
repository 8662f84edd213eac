"""One connection to a broker. The only module that imports the MQTT client.

A link is made, used until something breaks, and thrown away; what should survive it is in the
outbox. Timeouts leave aiomqtt 2.5 clients unusable, so none is ever used twice.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from streamguard.alerts.settings import MqttSettings, TlsSettings
from streamguard.detached import run_detached
from streamguard.errors import StreamguardError

log = logging.getLogger(__name__)

T = TypeVar("T")

_WRONG_VERSION = frozenset({1, 132})  # as 3.1.1 says it, as 5 does
_NO_MATCHING_SUBSCRIBERS = 16
_REFUSED_FROM = 128
# Topic name invalid, packet too large, payload format invalid: no later attempt will do better.
_HOPELESS = frozenset({144, 149, 153})
_INCOMING_MAX = 100
_DISPOSE_S = 2.0
_THREAD = "streamguard-mqtt-connect"


class Version(enum.Enum):
    """Of the protocol."""

    V5 = "5"
    V311 = "3.1.1"


class LinkError(StreamguardError):
    """The connection cannot be made, or is lost.

    ``version_refused``: the broker says that it does not speak this version, or gave no answer at
    all, which is how some that only know 3.1.1 take the question.
    """

    def __init__(self, reason: str, *, version_refused: bool = False) -> None:
        self.reason = reason
        self.version_refused = version_refused
        super().__init__(reason)


class PublishRefusedError(LinkError):
    """The broker answered a publish with a failure (MQTT 5 only; 3.1.1 cannot say it).

    ``hopeless``: because of the message itself, not of our rights or its load.
    """

    def __init__(self, topic: str, reason: str, code: int) -> None:
        self.topic = topic
        self.code = code
        self.hopeless = code in _HOPELESS
        super().__init__(f"the broker refuses {topic}: {reason}")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish. The last three are for MQTT 5 and dropped on 3.1.1."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    content_type: str | None = None
    expiry_s: int | None = None
    user_properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message of a subscription."""

    topic: str
    payload: bytes
    retained: bool


class _Client(aiomqtt.Client):
    """aiomqtt 2.5 with what it keeps to itself: PUBACK reasons, early closes, a full clean-up."""

    puback: ReasonCode | None = None

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        self.puback = reason_code
        super()._on_publish(client, userdata, mid, reason_code, properties)

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None
    ) -> None:
        # aiomqtt ignores a close before CONNACK and waits for its timeout. Paho may call this from
        # the thread that connects.
        self._loop.call_soon_threadsafe(self.fail_connecting)
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def fail_connecting(self) -> None:
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError("closed without an answer"))

    def take_socket(self, sock: socket.socket) -> None:
        """Speak on this. By itself paho connects in the loop's executor, which is waited for."""
        self._client._create_socket = lambda: sock  # type: ignore[method-assign]

    async def dispose(self) -> None:
        """Leave neither socket nor reader nor task behind, whatever state we are in."""
        self._client._sock_close()
        # Let the callbacks run that paho's thread has scheduled: one of them makes the task.
        await asyncio.sleep(0)
        for future in (self._connected, self._disconnected):
            if future.done() and not future.cancelled():
                future.exception()  # marks it as seen
        if self._misc_task is not None:
            self._misc_task.cancel()
            await asyncio.wait((self._misc_task,))


class Link:
    """See the module. Publish from one task at a time."""

    def __init__(self, client: _Client, version: Version) -> None:
        self._client = client
        self.version = version

    @classmethod
    async def connect(
        cls, settings: MqttSettings, client_id: str, will: Outgoing, version: Version
    ) -> Link:
        """Connect once. Raises LinkError; cancelling it leaves nothing behind."""
        try:
            # Each time anew: certificates and secrets are files, and may have been renewed.
            password, tls = await run_detached(lambda: _read_secrets(settings), _THREAD)
        except (OSError, ValueError) as err:
            raise LinkError(f"mqtt: {err}") from err
        try:
            sock = await run_detached(
                lambda: _open_socket(settings, tls), _THREAD, discard=socket.socket.close
            )
        except (OSError, ValueError) as err:
            # ValueError: a host name that cannot be one (IDNA), from the resolver.
            raise LinkError(_text(err)) from err
        five = version is Version.V5
        client = _Client(
            settings.host,
            settings.effective_port,
            username=settings.username,
            password=password,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
            will=aiomqtt.Will(
                will.topic,
                will.payload,
                will.qos,
                will.retain,
                _properties(PacketTypes.WILLMESSAGE, WillDelayInterval=settings.will_delay_s)
                if five
                else None,
            ),
            # The will is delayed only within a session that outlives the connection, and is called
            # off only if we come back to that session.
            clean_session=None if five else True,
            # Paho wants its default where the version has no such flag.
            clean_start=False if five else MQTT_CLEAN_START_FIRST_ONLY,
            properties=_properties(
                PacketTypes.CONNECT, SessionExpiryInterval=settings.will_delay_s + 1
            )
            if five
            else None,
            timeout=settings.timeout_s,
            keepalive=settings.keepalive_s,
            max_queued_incoming_messages=_INCOMING_MAX,
            logger=log.getChild("client"),
        )
        client.take_socket(sock)
        entering = asyncio.create_task(client.__aenter__(), name="mqtt.connect")
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            await _abandon(client, entering)
            raise
        except aiomqtt.MqttError as err:
            await client.dispose()
            code = _code(err)
            refused = True if code is None else code in _WRONG_VERSION
            raise LinkError(_text(err), version_refused=refused) from err
        return cls(client, version)

    async def publish(self, message: Outgoing, timeout_s: float | None = None) -> bool:
        """Publish and wait for the broker's acknowledgement (QoS 1).

        Returns False where the broker says that nobody listens (MQTT 5). Raises LinkError.
        """
        self._client.puback = None
        await _answered(
            "publishing",
            self._client.publish(
                message.topic,
                message.payload,
                message.qos,
                message.retain,
                self._publish_properties(message),
                timeout=timeout_s,
            ),
        )
        answer = self._client.puback
        code = answer.value if message.qos and answer is not None else 0
        if code >= _REFUSED_FROM:
            raise PublishRefusedError(message.topic, str(answer), code)
        return code != _NO_MATCHING_SUBSCRIBERS

    async def subscribe(self, *topics: str) -> None:
        """At QoS 1. Raises LinkError; a refused topic is only logged."""
        for topic in topics:
            granted = await _answered("subscribing", self._client.subscribe(topic, qos=1))
            for code in granted:
                if (code.value if isinstance(code, ReasonCode) else code) >= _REFUSED_FROM:
                    log.warning("the broker refuses us the commands of %s", topic)

    async def messages(self) -> AsyncIterator[Incoming]:
        """Everything that arrives. Never ends: raises LinkError when the connection is lost."""
        try:
            async for message in self._client.messages:
                payload = message.payload
                yield Incoming(
                    message.topic.value,
                    payload if isinstance(payload, bytes) else str(payload).encode(),
                    bool(message.retain),
                )
        except aiomqtt.MqttError as err:
            raise LinkError(f"connection lost: {_text(err.__cause__ or err)}") from err

    async def drop(self) -> None:
        """Clean up without a word, so that the broker publishes our will. May be repeated."""
        await self._client.dispose()

    async def close(self) -> None:
        """Say DISCONNECT, which calls the will off, and clean up."""
        with suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(_DISPOSE_S):
                await self._client.__aexit__(None, None, None)
        await self._client.dispose()

    def _publish_properties(self, message: Outgoing) -> Properties | None:
        if self.version is Version.V311:
            return None
        wanted: dict[str, Any] = {}
        if message.content_type is not None:
            wanted |= {"ContentType": message.content_type, "PayloadFormatIndicator": 1}
        if message.expiry_s is not None:
            wanted["MessageExpiryInterval"] = message.expiry_s
        if message.user_properties:
            wanted["UserProperty"] = list(message.user_properties)
        return _properties(PacketTypes.PUBLISH, **wanted) if wanted else None


async def _answered(doing: str, call: Awaitable[T]) -> T:
    """Await aiomqtt. Its errors become ours, and a cancellation is never lost.

    The ``asyncio.wait_for`` of Python 3.11, which aiomqtt uses, forgets a cancellation that comes
    together with the answer; the task would then go on for ever.
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        answer = await call
    except aiomqtt.MqttError as err:
        raise LinkError(f"{doing} failed: {_text(err)}") from err
    if task.cancelling() > before:
        raise asyncio.CancelledError
    return answer


async def _abandon(client: _Client, entering: asyncio.Task[Any]) -> None:
    """End an attempt that nobody waits for any more; its thread may be about to send CONNECT."""
    client.fail_connecting()
    await asyncio.wait((entering,), timeout=_DISPOSE_S)
    if entering.done():
        entering.exception()  # marks it as seen
    await client.dispose()


def _read_secrets(settings: MqttSettings) -> tuple[str | None, ssl.SSLContext | None]:
    password = settings.password.read() if settings.password is not None else None
    return password, _tls_context(settings.tls) if settings.tls is not None else None


def _open_socket(settings: MqttSettings, tls: ssl.SSLContext | None) -> socket.socket:
    """A connection, encrypted if asked for. Blocking: resolver, handshakes."""
    address = (settings.host, settings.effective_port)
    sock = socket.create_connection(address, timeout=settings.timeout_s)
    if tls is None:
        return sock
    try:
        return tls.wrap_socket(sock, server_hostname=settings.host)
    except (OSError, ValueError):
        sock.close()
        raise


def _tls_context(tls: TlsSettings) -> ssl.SSLContext:
    for path in (tls.ca, tls.cert, tls.key):
        if path is not None and not path.is_file():
            raise ValueError(f"tls: {path} is not a file")
    context = ssl.create_default_context(cafile=str(tls.ca) if tls.ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = tls.check_hostname
    if tls.cert is not None and tls.key is not None:
        # Without this OpenSSL would ask on the terminal.
        password = tls.key_password.read() if tls.key_password is not None else ""
        context.load_cert_chain(tls.cert, tls.key, password)
    return context


def _properties(packet: int, **values: Any) -> Properties:
    properties: Properties = Properties(packet)  # type: ignore[no-untyped-call]  # paho has none
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _code(err: BaseException) -> int | None:
    rc = getattr(err, "rc", None)
    return rc.value if isinstance(rc, ReasonCode) else rc


def _text(err: BaseException) -> str:
    rc = getattr(err, "rc", None)
    return str(rc) if isinstance(rc, ReasonCode) else str(err) or type(err).__name__
