"""Settings of the MQTT broker: address, credentials and TLS, which depend on each other."""

from dataclasses import replace
from pathlib import Path

from tagger.config.given import Given
from tagger.config.resolver import Resolver
from tagger.errors import SettingError
from tagger.names import is_address
from tagger.settings import MqttSettings

_ADDRESS = ("host", "port", "tls", "embedded")
"""Fields that `mqtt.url` sets, or `mqtt.host`, `mqtt.port` and `mqtt.tls`: together, by `_mqtt`."""
_TLS = ("tls_ca_certs", "tls_client_cert", "tls_client_key", "tls_host_name", "tls_insecure")


class BrokerResolver(Resolver):
    """Makes the settings of `[mqtt]`."""

    def _mqtt(self) -> MqttSettings | None:
        url, address = self._given["mqtt.url"], self._present("mqtt.host", "mqtt.port", "mqtt.tls")
        decided = max([url, *address], key=lambda given: given.rank)
        if address and decided is url:
            if url.rank == max(given.rank for given in address):
                self._problem(address[0], "says again what mqtt.url says: give the URL, or host, port and tls")
            for given in address:
                self._drop(given)
            address = []
        elif address and url.is_given and not self._given["mqtt.host"].is_given:
            self._problem(address[0], "goes with mqtt.host, but mqtt.url names the broker: change it there")
        if not address and url.value == "none":
            keys = ("commands", "user", "password", "password_file", "client_id", "version", "queue_events", "expiry_s")
            self._no_effect(url, "needs MQTT, and mqtt.url is none", *(f"mqtt.{name}" for name in (*keys, *_TLS)))
            return None
        base = self._make(lambda: self._address() if address else MqttSettings.from_url(url.value))
        if base is None:
            return None
        version = self._given["mqtt.version"]
        if base.embedded and version.value == "5":
            self._no_effect(decided, "the embedded broker speaks 3.1.1 only", "mqtt.version")
            version = decided
        if base.embedded:
            self._no_effect(decided, "the embedded broker asks for none; only this machine reaches it",
                          "mqtt.user", "mqtt.password", "mqtt.password_file")  # fmt: skip
        if not base.tls:
            tls = self._given["mqtt.tls"] if address and self._given["mqtt.tls"].is_given else decided
            self._no_effect(
                tls, "is for TLS: write mqtts:// in mqtt.url, or mqtt.tls = true", *(f"mqtt.{n}" for n in _TLS)
            )
        self._tls()
        if self._value("mqtt.version") != "5":
            self._no_effect(version, 'is for mqtt.version = "5"', "mqtt.expiry_s")
        if address:
            self._given["mqtt.url"] = Given(url.option, None)
        user, password = self._credentials(base, url)
        fields = {name: value for name, value in self._fields("mqtt").items() if name not in _ADDRESS}
        return self._make(lambda: replace(base, **fields | {"user": user, "password": password}))

    def _address(self) -> MqttSettings:
        host, tls = self._given["mqtt.host"], bool(self._value("mqtt.tls"))
        if host.is_given and not is_address(host.value):
            raise SettingError("mqtt.host", "is no host's name or address")
        port = self._value("mqtt.port") or (8883 if tls else 1883)
        return MqttSettings(host=host.value or "localhost", port=int(port), tls=tls)

    def _tls(self) -> None:
        insecure = self._given["mqtt.tls_insecure"]
        if insecure.value:
            self._no_effect(insecure, "has no effect with tls_insecure, which checks no name and no authority",
                          "mqtt.tls_host_name", "mqtt.tls_ca_certs")  # fmt: skip
        cert = self._given["mqtt.tls_client_cert"]
        if not cert.is_given:
            self._no_effect(cert, "is for mqtt.tls_client_cert", "mqtt.tls_client_key")
        for name in _TLS[:3]:
            given = self._given[f"mqtt.{name}"]
            if given.value is not None and (problem := _unreadable(given.value)):
                self._problem(given, problem)

    def _credentials(self, base: MqttSettings, url: Given) -> tuple[str | None, str | None]:
        """User and password, each from the highest rank that names one."""
        user = self._given["mqtt.user"]
        name = user.value
        if base.user is not None:
            if user.rank == url.rank:
                self._problem(user, "mqtt.url names a user already")
            name = name if user.rank > url.rank else base.user
        candidates = self._present("mqtt.password", "mqtt.password_file")
        if base.password is not None:
            candidates.append(url)
        if not candidates:
            return name, None
        best = max(candidates, key=lambda given: given.rank)
        same = [given for given in candidates if given.rank == best.rank]
        if len(same) > 1:
            keys = " and ".join(given.option.key for given in same)
            self._problem(same[0], f"one password is enough: {keys} both say one")
        if name is None:
            self._problem(best, "a password needs a user too: mqtt.user")
        if best.option.key == "mqtt.password_file":
            return name, self._secret(best)
        return name, base.password if best is url else best.value


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb"):
            return None
    except OSError as error:
        return f"{path}: {error.strerror}"
