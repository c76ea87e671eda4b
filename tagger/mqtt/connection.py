"""The connection to a broker: one paho client, which connects, reconnects with backoff and jitter, and delivers.

The only module that imports paho.
"""

import logging
import random
import re
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tagger import __version__
from tagger.errors import UserError
from tagger.settings import MqttSettings

log = logging.getLogger(__name__)

_KEEPALIVE_SECONDS = 30
_RETRY_SECONDS = (1.0, 60.0)
"""First and longest wait between attempts to connect; each is twice the one before."""
_JITTER = 0.25
"""So much longer or shorter are these, lest all clients of a broker come back at once."""
_SHORT_SECONDS = 1.5
"""A broker that hangs up so soon after its welcome is not asked again at once: it may be for a reason that stays. More
than a first wait ever is: of two that go by the same client id, and throw each other out, one then gives way."""
_MOST_SHORT = 3
"""Each of so many such connections in a row doubles the first wait: to 8 s, no more; the broker may be well again."""
_WINDOW = 20
"""Messages on their way at once, unless the broker wants fewer. Mosquitto takes as many."""
_STOP_SECONDS = 1.0
"""So long may saying goodbye take."""
_MOST_OVERHEAD_BYTES = 512
"""Of a packet: all but topic and payload, MQTT 5's properties included."""
_FINAL_REFUSALS = {
    "Bad user name or password": "check user and password",
    "Not authorized": "check user and password",
    "Banned": "ask whoever runs the broker",
    "Client identifier not valid": "choose another client_id",
    "Unsupported protocol version": "choose another version of MQTT, 3.1.1 or 5",
}
"""What a broker answers when trying again cannot help, and what can."""
_CERTIFICATE_NOT_YET_VALID = 9
"""OpenSSL's number. A clock that is not set yet, as a Raspberry Pi's at boot, is a reason to try again."""


@dataclass(frozen=True)
class Outgoing:
    """A message to publish."""

    topic: str
    payload: str
    qos: int = 1
    retain: bool = False
    expiry_s: int | None = None
    """MQTT 5: after so long it is worth nothing any more."""
    number: int | None = None
    """In the outbox, of one that waits there."""

    @property
    def most_bytes(self) -> int:
        """No packet of it is larger."""
        return len(self.payload.encode()) + len(self.topic.encode()) + _MOST_OVERHEAD_BYTES

    @property
    def is_json(self) -> bool:
        return self.payload.startswith("{")


class Connection:
    """Says what happens to it in one line each. Callbacks come from paho's thread, and must not wait."""

    def __init__(
        self,
        settings: MqttSettings,
        on_refused: Callable[[UserError], None] | None,
        client_id: str = "",
        quiet: bool = False,
    ) -> None:
        """
        Args:
            on_refused: called when the very first connection is refused for good. None: it is tried again all the same.
            client_id: empty: one made up by paho, another each time.

        Raises:
            UserError: a certificate file cannot be used.
        """
        self.ready = threading.Event()
        """Set while connected, and when refused for good."""
        self.ever_connected = False
        self.refused = False
        self.reconnects = 0
        self.window = _WINDOW
        """So many messages may wait for the broker's acknowledgement."""
        self.most_bytes: int | None = None
        """No packet may be larger. None: the broker has not said."""
        self.short = 0
        """How many of the last connections ended as soon as they had begun."""
        self.on_connected: Callable[[], None] = _nothing
        self.on_lost: Callable[[], None] = _nothing
        self.on_published: Callable[[int, bool], None] = _nothing
        """The broker has this message, or (True) has refused it for good."""
        self.on_message: Callable[[str, bytes, bool], None] = _nothing
        self.on_subscribed: Callable[[], None] = _nothing
        self._settings, self._on_refused, self._quiet = settings, on_refused, quiet
        self._stopping = False
        self._since: float | None = None
        """When the present connection was accepted, on the monotonic clock."""
        self._said = False
        """Of this connection: that the broker refuses it, or refuses a message. Once is enough."""
        self._error: OSError | None = None
        """What broke this connection."""
        self._is_5 = settings.version == "5"
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if self._is_5 else MQTTProtocolVersion.MQTTv311,
        )
        if settings.user is not None:
            self._client.username_pw_set(settings.user, settings.password)
        if settings.tls:
            self._client.tls_set_context(_tls(settings))
            self._client.tls_insecure_set(settings.tls_insecure)
        self._client.max_queued_messages_set(0)
        self._client.max_inflight_messages_set(0)  # their number is bounded by whoever publishes
        self._client.on_connect = self._connected
        self._client.on_connect_fail = self._failed
        self._client.on_disconnect = self._lost
        self._client.on_publish = lambda client, data, mid, reason, properties: self._published(mid, reason)
        self._client.on_message = lambda client, data, message: self.on_message(
            message.topic, bytes(message.payload), message.retain
        )
        self._client.on_subscribe = lambda client, data, mid, reasons, properties: self._subscribed(reasons)
        self._client.on_log = self._logged
        self._back_off()

    def will(self, topic: str, payload: str) -> None:
        """What the broker says of this client, retained, should it vanish."""
        self._client.will_set(topic, payload, qos=1, retain=True)

    def start(self) -> None:
        """Returns at once; connects, and connects again, until `stop`."""
        self._aim()
        self._client.loop_start()

    def stop(self) -> None:
        """Returns when paho's thread has ended, or soon: it may be looking up a host, or waiting for a broker that
        takes nothing any more. Then it ends by itself.
        """
        self._stopping = True
        self._client.disconnect()
        stopping = threading.Thread(target=self._client.loop_stop, name="mqtt-stop", daemon=True)
        stopping.start()
        stopping.join(_STOP_SECONDS)
        if stopping.is_alive():
            self._client.drop_out_messages()  # for the acknowledgement of which it would wait
        # Nobody refers to each other any more: so paho's sockets are closed now, not when memory is next tidied.
        for name in ("connect", "connect_fail", "disconnect", "publish", "message", "subscribe", "log"):
            setattr(self._client, f"on_{name}", None)
        self.on_connected = self.on_lost = self.on_published = self.on_message = self.on_subscribed = _nothing

    @property
    def is_up(self) -> bool:
        return self._since is not None

    def publish(self, message: Outgoing) -> int:
        """Hands a message to paho, in whose hands it stays, also through an outage, until `on_published` tells its
        number, which is returned.
        """
        properties = self._properties(message) if self._is_5 else None
        return self._client.publish(message.topic, message.payload, message.qos, message.retain, properties).mid

    def take_back(self) -> None:
        """All that was published and not acknowledged is out of paho's hands."""
        self._client.drop_out_messages()

    def subscribe(self, topics: Sequence[str]) -> None:
        self._client.subscribe([(topic, 1) for topic in topics])

    def _aim(self) -> None:
        clean: Any = {"clean_start": True} if self._is_5 else {}
        self._client.connect_async(self._settings.host, self._settings.port, _KEEPALIVE_SECONDS, **clean)

    def _properties(self, message: Outgoing) -> Properties:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = "application/json" if message.is_json else "text/plain"
        properties.PayloadFormatIndicator = 1
        properties.UserProperty = [("node", self._settings.node), ("producer", f"tagger {__version__}")]
        if message.expiry_s is not None:
            properties.MessageExpiryInterval = message.expiry_s
        return properties

    def _say(self, level: int, text: str, *values: object) -> None:
        if not self._quiet:
            log.log(level, text, *values)

    def _back_off(self) -> None:
        first, longest = _RETRY_SECONDS
        first = min(first * 2**self.short, longest) * random.uniform(1 - _JITTER, 1 + _JITTER)
        longest *= random.uniform(1, 1 + _JITTER)
        self._client.reconnect_delay_set(first, max(first, longest))

    def _was_away(self) -> None:
        """The broker was not reached: it had died, then, and not thrown us out."""
        if self.short:
            self.short = 0
            self._back_off()

    def _connected(self, client: paho.Client, data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        self._said = reason.is_failure
        if reason.is_failure:
            advice = _FINAL_REFUSALS.get(str(reason))
            if advice is not None and self._may_refuse:
                self._refuse(f"refuses: {reason}; {advice}")
            else:
                said = f"{reason}; {advice}" if advice is not None else str(reason)
                self._say(logging.WARNING, "MQTT: %s refuses (%s); trying again", self._settings.url, said)
            return
        self._say(logging.INFO, "MQTT: connected to %s", self._settings.url)
        self._since = time.monotonic()
        self.window = min(_WINDOW, getattr(properties, "ReceiveMaximum", _WINDOW))
        self.most_bytes = getattr(properties, "MaximumPacketSize", None)
        self.reconnects += self.ever_connected
        self.ever_connected = True
        self.on_connected()
        self.ready.set()

    @property
    def _may_refuse(self) -> bool:
        return self._on_refused is not None and not self.ever_connected

    def _refuse(self, why: str) -> None:
        self.refused = True
        self.ready.set()
        self._client.disconnect()
        if self._on_refused is not None:
            self._on_refused(UserError(f"the broker at {self._settings.url} {why}"))

    def _failed(self, client: paho.Client, data: Any) -> None:
        # paho calls this while it handles the exception, and tells the reason nowhere else.
        reason = sys.exception()
        if refusal := self._final(reason):
            self._refuse(refusal)
            return
        self._was_away()
        if not self.ever_connected:
            self._aim()  # anew: else paho, before its second attempt, waits twice
        first, longest = _RETRY_SECONDS
        self._say(
            logging.WARNING,
            "MQTT: cannot reach %s (%s); trying again, after %.0f s at first, then less often, up to %.0f s",
            *(self._settings.url, _words(reason), first, longest),
        )

    def _final(self, error: BaseException | None) -> str:
        """What is to be said where one side will not have the other's certificate, and never had. Else empty."""
        if not self._may_refuse or not isinstance(error, ssl.SSLError):
            return ""
        if isinstance(error, ssl.SSLCertVerificationError):
            if error.verify_code == _CERTIFICATE_NOT_YET_VALID:
                return ""
            return f"is not trusted: {_words(error)}; check tls_ca_certs and tls_host_name"
        if re.search("ALERT.*(CERTIFICATE|UNKNOWN_CA)", error.reason or ""):
            return f"wants a client certificate that it trusts ({_words(error)}); check tls_client_cert"
        return ""

    def _logged(self, client: paho.Client, data: Any, level: int, text: str) -> None:
        # paho also calls this while it handles the exception that broke a connection; `_lost` is not told of it.
        error = sys.exception()
        if level == paho.MQTT_LOG_ERR and isinstance(error, OSError):
            self._error = error.with_traceback(None)  # whose frames would keep sockets alive

    def _lost(self, client: paho.Client, data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        self.ready.clear()
        accepted, self._since = self._since, None
        error, self._error = self._error, None
        why = _words(error) if error is not None else str(reason).replace("Unspecified error", "it hung up")
        if accepted is not None:
            is_short = time.monotonic() - accepted < _SHORT_SECONDS
            self.short = min(self.short + 1, _MOST_SHORT) if is_short else 0
            self._back_off()
            self.on_lost()
        else:
            self._was_away()
        if refusal := self._final(error):  # TLS 1.3 tells of a client's certificate after all seemed well
            self._refuse(refusal)
        elif self.refused:
            self.ready.set()
        elif self._stopping:
            pass
        elif accepted is not None:
            self._say(logging.WARNING, "MQTT: lost %s (%s); reconnecting, events wait", self._settings.url, why)
        elif not self._said:
            if not self.ever_connected and not self._settings.tls:
                why = f"{why}; does it want mqtts://?"
            self._say(logging.WARNING, "MQTT: %s does not answer (%s); trying again", self._settings.url, why)
        self._said = False

    def _subscribed(self, reasons: Sequence[ReasonCode]) -> None:
        if refusals := [reason for reason in reasons if reason.is_failure]:
            text = "MQTT: %s refuses a subscription (%s); requests do not arrive: check its access list"
            self._say(logging.WARNING, text, self._settings.url, refusals[0])
        self.on_subscribed()

    def _published(self, mid: int, reason: ReasonCode) -> None:
        if reason.is_failure and not self._said:  # MQTT 5 alone says so
            self._said = True  # of all messages to a topic, say, there would be a line each
            self._say(
                logging.WARNING, "MQTT: %s refuses messages (%s); check its access list", self._settings.url, reason
            )
        self.on_published(mid, reason.is_failure)


def _nothing(*_: object) -> None:
    """Nobody listens."""


class _Pinned(ssl.SSLContext):
    """Asks for, and checks, another name than the one that the broker was reached by."""

    host_name: str

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*args, **options | {"server_hostname": self.host_name})


def _tls(settings: MqttSettings) -> ssl.SSLContext:
    """
    Raises:
        UserError: a file is missing, or is no certificate or key; `tls_host_name` is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if settings.tls_host_name is not None:
        context = _Pinned(ssl.PROTOCOL_TLS_CLIENT)
        context.host_name = settings.tls_host_name
        try:
            context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=settings.tls_host_name)
        except ValueError as error:  # paho would not see it
            raise UserError(f"tls_host_name {settings.tls_host_name!r}: is no host's name ({error})") from None
    if settings.tls_insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif settings.tls_ca_certs is None:
        context.load_default_certs()
    else:
        _load("tls_ca_certs", settings.tls_ca_certs, context.load_verify_locations)
    if settings.tls_client_cert is not None:
        _load_own(context, settings.tls_client_cert, settings.tls_client_key)
    return context


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """The client's own certificate and key. Each is read by itself first, to know which cannot be."""
    _load("tls_client_cert", certificate, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations)
    at = f"tls_client_cert {certificate}" if key is None else f"tls_client_key {key}"
    no_password = "\0"  # else OpenSSL would ask at the terminal
    try:
        is_encrypted = b"ENCRYPTED" in (key or certificate).read_bytes()
        context.load_cert_chain(certificate, key, lambda: no_password)
    except ssl.SSLError as error:
        if is_encrypted:
            raise UserError(f"{at}: the key is encrypted; write it without a password: openssl pkey") from None
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UserError(f"{at}: the key does not belong to the certificate in {certificate}") from None
        more = "; name the file that does: tls_client_key" if key is None else ""
        raise UserError(f"{at}: holds no private key in PEM form{more}") from None
    except OSError as error:
        raise UserError(f"{at}: {error.strerror or error}") from None


def _load(key: str, path: Path, load: Callable[[Path], None]) -> None:
    try:
        load(path)
    except ssl.SSLError:
        raise UserError(f"{key} {path}: holds no certificate in PEM form") from None
    except OSError as error:
        raise UserError(f"{key} {path}: {error.strerror or error}") from None


def _words(error: BaseException | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return re.sub(r"^_ssl\.c:\d+: ", "", text)
