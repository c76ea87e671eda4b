"""The connection to a broker: one paho client, which connects, reconnects with backoff and jitter, and delivers.

Only this module and `client.py`, paho's client itself, import paho.
"""

import logging
import math
import random
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tagger import __version__
from tagger.errors import UserError
from tagger.mqtt.client import BoundedClient, HoldingClient
from tagger.mqtt.message import Outgoing
from tagger.mqtt.reasons import ADVICE, certificate_refusal, describe
from tagger.mqtt.tls import tls_context
from tagger.retry import pause_s
from tagger.settings import MqttSettings
from tagger.unforeseen import contained

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 30
"""Silence after which broker and client take each other for gone, seconds."""
CONNECT_SECONDS = 5.0
"""Longest wait for a connection, and for its TLS handshake, seconds."""
RETRY_SECONDS = (1.0, 60.0)
"""First and longest wait between two attempts to connect, seconds. Each wait is twice the one before."""
_SESSION_RETRY_SECONDS = (0.1, 60.0)
"""The same with a session. Some brokers forget shared subscriptions when they restart (Mosquitto 2.0.11), so whoever
subscribes should be there before those who publish."""
_NO_BROKER = ". Is a broker running there? Start one, such as Mosquitto, or name another with --mqtt"
_REMIND_SECONDS = 3_600.0
"""Time after which the log says again that the broker cannot be reached, seconds."""
_JITTER = 0.25
"""Each wait is longer or shorter by up to this share, so that a broker's clients do not all come back at once."""
SHORT_SECONDS = 1.5
"""A connection that ends sooner than this is short. The broker may have a lasting reason to hang up, so the next wait
is longer. Longer than any first wait: of two clients with one id, which throw each other out, one then gives way."""
_MAX_SHORT_CONNECTIONS = 3
"""Each short connection in a row doubles the first wait, up to this many: to 8 s, since the broker may recover."""
_RIVAL_SECONDS = 30.0
"""A broker that hangs up within this time of connecting, and then accepts the next connection at once, may have found
another client with the same id."""
_RIVAL_HANGUPS = 3
"""Number of such connections in a row after which the log says so."""
_MAX_IN_FLIGHT = 20
"""Messages without acknowledgement at any time, unless the broker wants fewer. Mosquitto's default is the same."""
_STOP_SECONDS = 1.0
"""Longest wait for the disconnect, seconds."""


@dataclass(frozen=True)
class Session:
    """A session that the broker keeps while the client is away (MQTT 5). A message counts as received once
    `Connection.acknowledge` was called, and else comes again with the next connection.
    """

    expiry_s: int
    """Time for which the broker keeps it, seconds."""
    most_held: int
    """Largest number of messages that the broker sends before one of them is acknowledged; at most 65,535."""


class Connection:
    """Logs each change of the connection in one line. Callbacks run in paho's thread, and must not block."""

    def __init__(
        self,
        settings: MqttSettings,
        on_refused: Callable[[UserError], None] | None,
        client_id: str = "",
        quiet: bool = False,
        session: Session | None = None,
    ) -> None:
        """
        Args:
            on_refused: called when the broker refuses the very first connection for good. None: the connection is tried
                again even then.
            client_id: empty: paho makes up another one each time.
            quiet: log nothing.
            session: for `on_held` and `acknowledge`; needs a client id that stays, and version 5.

        Raises:
            UserError: a certificate file cannot be used.
        """
        self.ready = threading.Event()
        """Set while connected, and once the broker has refused for good."""
        self.ever_connected = False
        self.refused = False
        """Whether the broker has refused for good."""
        self.trouble = ""
        """Why the last attempt to connect failed. Empty: none has, or there is a connection."""
        self.reconnects = 0
        """Connections after the first."""
        self.max_in_flight = _MAX_IN_FLIGHT
        """Number of messages that may wait for the broker's acknowledgement."""
        self.max_packet_bytes: int | None = None
        """Largest packet that the broker accepts. None: the broker has not said."""
        self.short_connections = 0
        """Number of short connections in a row, until now; at most _MAX_SHORT_CONNECTIONS."""
        self.on_connected: Callable[[], None] = _ignore
        self.on_lost: Callable[[], None] = _ignore
        self.on_acknowledged: Callable[[int, bool], None] = _ignore
        """Called with paho's number of a message, and whether the broker has refused it for good (MQTT 5)."""
        self.on_message: Callable[[str, bytes, bool], None] = _ignore
        """Called with topic, payload, and whether the message was retained."""
        self.on_held: Callable[[str, bytes, int], None] = _ignore
        """With a session, called instead of `on_message`: topic, payload, and the number for `acknowledge`."""
        self.on_subscribed: Callable[[], None] = _ignore
        self._session, self._ends_session = session, False
        self._settings, self._on_refused, self._quiet = settings, on_refused, quiet
        self._is_stopping = False
        self._connected_at: float | None = None
        """Time at which the broker accepted the present connection, on the monotonic clock. None: not connected."""
        self._has_logged_refusal = False
        """Whether a refusal of this connection, or of a message on it, is in the log: one line is enough."""
        self._unreachable, self._remind_at = "", 0.0
        """Why the broker cannot be reached, as the log says; and when it says so again, on the monotonic clock."""
        self._client_id = client_id
        self._hangups = 0
        """Number of connections in a row at which the broker soon hung up."""
        self._socket_error: OSError | None = None
        """The error that broke this connection."""
        self._is_version_5 = settings.version == "5"
        self._announces_limit = self._is_version_5
        """Whether the broker is told the largest packet that is taken. Some brokers that know only 3.1.1 do not answer
        a connection that says so; the next one then does not, and they refuse it in words."""
        self._client = self._make_client()
        self._set_callbacks()
        self._set_backoff()

    def _make_client(self) -> BoundedClient:
        settings = self._settings
        if self._session is not None:
            client: BoundedClient = HoldingClient(self._client_id, self._hold)
        else:
            client = BoundedClient(
                CallbackAPIVersion.VERSION2,
                self._client_id,
                protocol=MQTTProtocolVersion.MQTTv5 if self._is_version_5 else MQTTProtocolVersion.MQTTv311,
            )
        if settings.user is not None:
            client.username_pw_set(settings.user, settings.password)
        if settings.tls:
            client.tls_set_context(tls_context(settings))
            client.tls_insecure_set(settings.tls_insecure)
        client.connect_timeout = CONNECT_SECONDS
        client.max_queued_messages_set(0)
        client.max_inflight_messages_set(0)  # the publisher bounds their number
        return client

    def _set_callbacks(self) -> None:
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = lambda client, data, mid, reason, properties: self._on_publish(mid, reason)
        if self._session is None:
            self._client.on_message = lambda client, data, message: self._on_message(message)
        self._client.on_subscribe = lambda client, data, mid, reasons, properties: self._on_subscribe(reasons)
        self._client.on_log = self._on_log

    def set_will(self, topic: str, payload: str) -> None:
        """Sets the last will: the message that the broker publishes, retained, if this client vanishes."""
        self._client.will_set(topic, payload, qos=1, retain=True)

    def start(self) -> None:
        """Returns at once. Connects in paho's thread, and reconnects until `stop`."""
        self._set_address()
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnects. Returns when paho's thread has ended, or after _STOP_SECONDS: the thread may still be looking up
        a host, or waiting for a broker that accepts no more data. It then ends by itself.
        """
        self._is_stopping = True
        properties = None
        if self._ends_session:
            properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
        stopping = threading.Thread(target=self._client.loop_stop, name="mqtt-stop", daemon=True)
        stopping.start()
        stopping.join(_STOP_SECONDS)
        if stopping.is_alive():
            self._client.drop_out_messages()  # the thread would wait for their acknowledgement
        # Break all reference cycles: paho's sockets are then closed now, not at the next garbage collection.
        for name in ("connect", "connect_fail", "disconnect", "publish", "message", "subscribe", "log"):
            setattr(self._client, f"on_{name}", None)
        self.on_connected = self.on_lost = self.on_acknowledged = self.on_message = self.on_subscribed = _ignore
        self.on_held = _ignore

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connected_at is not None

    def publish(self, message: Outgoing) -> int:
        """Hands a message to paho, which keeps it, also through an outage, until the broker acknowledges it.

        Returns:
            paho's number of the message, with which `on_acknowledged` is called.
        """
        properties = self._properties(message) if self._is_version_5 else None
        return self._client.publish(message.topic, message.payload, message.qos, message.retain, properties).mid

    def packet_bytes(self, message: Outgoing) -> int:
        """Size of the packet that brings this message to the broker, as a broker's limit counts it."""
        size = 2 + len(message.topic.encode()) + (2 if message.qos else 0) + len(message.payload.encode())
        if self._is_version_5:
            size += len(self._properties(message).pack())  # type: ignore[no-untyped-call]
        return 1 + max(1, math.ceil(size.bit_length() / 7)) + size

    def discard_unacknowledged(self) -> None:
        """Makes paho forget all messages that the broker has not acknowledged."""
        self._client.drop_out_messages()

    def receive_up_to(self, size: int) -> None:
        """Takes packets of so many bytes from the broker, where longer ones come than usual. Before the start."""
        self._client.max_received_bytes = max(self._client.max_received_bytes, size)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribes at QoS 1."""
        self._client.subscribe([(topic, 1) for topic in topics])

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """What the broker holds of these topics still comes."""
        self._client.unsubscribe(list(topics))

    def end_session(self) -> None:
        """Makes the broker forget the session, and what it holds for it, at `stop`."""
        self._ends_session = True

    def acknowledge(self, numbers: Sequence[int]) -> None:
        """Tells the broker that messages of the present connection are in safe hands (`on_held`)."""
        assert isinstance(self._client, HoldingClient)
        self._client.acknowledge(numbers)

    def _set_address(self) -> None:
        clean: Any = {}
        if self._is_version_5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            if self._announces_limit:
                properties.MaximumPacketSize = self._client.max_received_bytes
            if self._session is not None:
                properties.SessionExpiryInterval = self._session.expiry_s
                properties.ReceiveMaximum = self._session.most_held
            clean = {"clean_start": self._session is None, "properties": properties}
        self._client.connect_async(self._settings.host, self._settings.port, KEEPALIVE_SECONDS, **clean)

    def _properties(self, message: Outgoing) -> Properties:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if not message.is_plain:
            properties.ContentType = "application/json" if message.is_json else "text/plain"
            properties.PayloadFormatIndicator = 1
            properties.UserProperty = [("node", self._settings.node), ("producer", f"tagger {__version__}")]
        if message.expiry_s is not None:
            properties.MessageExpiryInterval = message.expiry_s
        return properties

    def _log(self, level: int, text: str, *values: object) -> None:
        if not self._quiet:
            log.log(level, text, *values)

    def _set_backoff(self) -> None:
        """Sets first and longest wait between attempts to connect. paho doubles each wait itself."""
        waits = RETRY_SECONDS if self._session is None else _SESSION_RETRY_SECONDS
        first = pause_s(self.short_connections, waits, (1 - _JITTER, 1 + _JITTER))
        longest = RETRY_SECONDS[1] * random.uniform(1, 1 + _JITTER)
        self._client.reconnect_delay_set(first, max(first, longest))  # type: ignore[arg-type]  # its code takes floats

    def _reset_short_connections(self) -> None:
        """For a broker that could not be reached: the last connection was short because the broker had died."""
        self._hangups = 0
        if self.short_connections:
            self.short_connections = 0
            self._set_backoff()

    def _look_for_rival(self, is_certain: bool, lasted_s: float) -> None:
        """Says that another client has the same id, once until a connection lasts.

        Args:
            is_certain: the broker has said so (MQTT 5). With 3.1.1 it hangs up without a word.
        """
        is_new = self._hangups < _RIVAL_HANGUPS
        if lasted_s >= _RIVAL_SECONDS:
            self._hangups = 0
        self._hangups = _RIVAL_HANGUPS if is_certain else self._hangups + 1
        if self._client_id and is_new and self._hangups >= _RIVAL_HANGUPS:
            self._log(
                logging.WARNING,
                "MQTT: another client with this id (%s) %s %s, such as a copy of the memory card or state folder: each "
                "takes the other's place. On the copy, remove known.json from the state folder (--state), or set "
                "another client_id; and give each a --node of its own",
                *(self._client_id, "connects to" if is_certain else "seems to connect to", self._settings.url),
            )

    @property
    def _may_give_up(self) -> bool:
        return self._on_refused is not None and not self.ever_connected

    def _give_up(self, why: str) -> None:
        self.refused = True
        self.ready.set()
        self._client.disconnect()
        if self._on_refused is not None:
            self._on_refused(UserError(f"the broker at {self._settings.url} {why}"))

    def _final_refusal(self, error: BaseException | None) -> str:
        """Message for the user if this error ends all attempts. Empty: the connection is tried again."""
        return certificate_refusal(error) if self._may_give_up else ""

    # --- paho's callbacks ---

    def _on_connect(self, client: paho.Client, data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        self._has_logged_refusal = reason.is_failure
        if reason.is_failure:
            advice = ADVICE.get(str(reason))
            if advice is not None and self._may_give_up:
                self._give_up(f"refuses: {reason}; {advice}")
            else:
                why = f"{reason}; {advice}" if advice is not None else str(reason)
                self.trouble = f"it refuses ({why})"
                self._log(logging.WARNING, "MQTT: %s refuses (%s); trying again", self._settings.url, why)
            return
        self._log(logging.INFO, "MQTT: connected to %s", self._settings.url)
        self.max_in_flight = min(_MAX_IN_FLIGHT, getattr(properties, "ReceiveMaximum", _MAX_IN_FLIGHT))
        self.max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
        self._connected_at = time.monotonic()
        self._unreachable = self.trouble = ""
        self.reconnects += self.ever_connected
        self.ever_connected = True
        self.on_connected()
        self.ready.set()

    def _on_connect_fail(self, client: paho.Client, data: Any) -> None:
        # paho calls this while it handles the exception, and passes the reason nowhere else.
        reason = sys.exception()
        if refusal := self._final_refusal(reason):
            self._give_up(refusal)
            return
        self._reset_short_connections()
        if not self.ever_connected:
            self._set_address()  # set once more, because paho would wait twice before its second attempt
        self.trouble = why = describe(reason)
        if why == self._unreachable and time.monotonic() < self._remind_at:
            return
        self._unreachable, self._remind_at = why, time.monotonic() + _REMIND_SECONDS
        first, longest = RETRY_SECONDS
        self._log(
            logging.WARNING,
            "MQTT: cannot reach %s (%s); trying again, after %.0f s at first, then less often, up to %.0f s%s",
            *(self._settings.url, why, first, longest, "" if isinstance(reason, ssl.SSLError) else _NO_BROKER),
        )

    def _on_log(self, client: paho.Client, data: Any, level: int, text: str) -> None:
        # paho also calls this while it handles the exception that broke a connection; `_on_disconnect` does not get it.
        error = sys.exception()
        if level == paho.MQTT_LOG_ERR and isinstance(error, OSError):
            self._socket_error = error.with_traceback(None)  # the traceback's frames would keep sockets alive

    def _on_disconnect(self, client: paho.Client, data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        self.ready.clear()
        connected_at, self._connected_at = self._connected_at, None
        error, self._socket_error = self._socket_error, None
        why = describe(error) if error is not None else str(reason).replace("Unspecified error", "it hung up")
        if connected_at is not None:
            is_short = time.monotonic() - connected_at < SHORT_SECONDS
            self.short_connections = min(self.short_connections + 1, _MAX_SHORT_CONNECTIONS) if is_short else 0
            self._set_backoff()
            self.on_lost()
        else:
            self._reset_short_connections()
        # With TLS 1.3 a refusal of the client's certificate arrives after the connection seemed established.
        if refusal := self._final_refusal(error):
            self._give_up(refusal)
        elif self.refused:
            self.ready.set()
        elif self._is_stopping:
            pass
        elif connected_at is not None:
            self._log(logging.WARNING, "MQTT: lost %s (%s); reconnecting, events wait", self._settings.url, why)
            self._look_for_rival(str(reason) == "Session taken over", time.monotonic() - connected_at)
        elif not self._has_logged_refusal:
            if not self.ever_connected and not self._settings.tls:
                why = f"{why}; does it want mqtts://?"
            self.trouble = why
            if self._is_version_5 and not self.ever_connected:
                self._announces_limit = not self._announces_limit
                self._set_address()
            self._log(logging.WARNING, "MQTT: %s does not answer (%s); trying again", self._settings.url, why)
        self._has_logged_refusal = False

    def _on_message(self, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # not every broker refuses such a topic
            return
        with contained("MQTT: a message"):
            self.on_message(topic, bytes(message.payload), message.retain)

    def _hold(self, topic: bytes, payload: bytes, number: int) -> None:
        try:
            text = topic.decode()
        except UnicodeDecodeError:
            self.acknowledge([number])
            return
        with contained("MQTT: a message"):
            self.on_held(text, payload, number)

    def _on_subscribe(self, reasons: Sequence[ReasonCode]) -> None:
        if refusals := [reason for reason in reasons if reason.is_failure]:
            text = "MQTT: %s refuses a subscription (%s); nothing arrives there: check its access list"
            self._log(logging.WARNING, text, self._settings.url, refusals[0])
        self.on_subscribed()

    def _on_publish(self, mid: int, reason: ReasonCode) -> None:
        if reason.is_failure and not self._has_logged_refusal:  # only MQTT 5 reports this
            self._has_logged_refusal = True  # a topic that is not allowed would otherwise log a line for each message
            self._log(
                logging.WARNING, "MQTT: %s refuses messages (%s); check its access list", self._settings.url, reason
            )
        self.on_acknowledged(mid, reason.is_failure)


def _ignore(*_: object) -> None:
    """Callback where nobody listens."""
