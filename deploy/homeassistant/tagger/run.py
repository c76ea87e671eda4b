"""Starts the daemon in the add-on: the add-on's options, and the broker that the Supervisor names, become variables.

`--check` asks the daemon that runs, for Docker's HEALTHCHECK: exit code 0, or 1 where only a restart helps.
"""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_OPTIONS = Path("/data/options.json")
_SETTINGS = Path("/config/tagger.toml")
_SUPERVISOR = "http://supervisor"
_PORT = 9494
"""Port inside the add-on, which nobody else reaches."""
_PAGE = "0.0.0.0:8420"
"""Address of the page inside the add-on; the port is `ingress_port` in config.yaml."""
_INGRESS = "172.30.32.2"
"""From where Home Assistant asks for the page, always; it has asked for the login.
https://developers.home-assistant.io/docs/add-ons/presentation#ingress
"""
_SECONDS = 10


def main() -> None:
    if sys.argv[1:] == ["--check"]:
        sys.exit(not is_healthy(f"http://127.0.0.1:{_PORT}/healthz"))
    options = json.loads(_OPTIONS.read_text("utf-8"))
    broker = None if options.get("mqtt_url") else broker_of(_SUPERVISOR, os.environ.get("SUPERVISOR_TOKEN", ""))
    found = variables(options, broker, _SETTINGS if _SETTINGS.exists() else None)
    if "TAGGER_LISTEN_MQTT" not in found and not _SETTINGS.exists():
        tell("Error: Home Assistant has no MQTT broker: install the add-on Mosquitto, or set this add-on's mqtt_url")
        sys.exit(2)
    os.execve("/opt/tagger/bin/tagger", ["tagger", "listen"], {**os.environ, **found})


def variables(
    options: Mapping[str, Any], broker: Mapping[str, Any] | None, settings: Path | None = None
) -> dict[str, str]:
    """What the daemon's environment has beyond the container's.

    Args:
        options: of the add-on.
        broker: what the Supervisor says of its service `mqtt`. None: there is none.
        settings: a file with settings that are no option of the add-on.
    """
    found = {
        "TAGGER_HOME": "/data",
        "TAGGER_LISTEN_HOMEASSISTANT": "1",
        "TAGGER_LISTEN_NODE": options.get("node") or "homeassistant",
        "TAGGER_LISTEN_HTTP_PORT": str(_PORT),
        "TAGGER_LISTEN_WEB": _PAGE,
        "TAGGER_LISTEN_WEB_LOGIN_PROXIES": json.dumps([_INGRESS]),
    }
    if settings is not None:
        found["TAGGER_LISTEN_CONFIG"] = str(settings)
    if options.get("sources"):
        found["TAGGER_LISTEN_SOURCES"] = json.dumps(options["sources"])
    if options.get("labels"):
        found["TAGGER_LISTEN_HOMEASSISTANT_LABELS"] = json.dumps(options["labels"])
    if options.get("owners"):
        found["TAGGER_LISTEN_WEB_OWNERS"] = json.dumps(options["owners"])
    if options.get("mqtt_url"):
        found["TAGGER_LISTEN_MQTT"] = options["mqtt_url"]
    elif broker is not None:
        scheme = "mqtts" if broker.get("ssl") else "mqtt"
        user, password = (urllib.parse.quote(str(broker.get(key) or ""), safe="") for key in ("username", "password"))
        login = f"{user}:{password}@" if user else ""
        found["TAGGER_LISTEN_MQTT"] = f"{scheme}://{login}{broker['host']}:{broker['port']}"
    return found


def broker_of(supervisor: str, token: str) -> Mapping[str, Any] | None:
    """What the Supervisor says of its broker. None: it has none, or cannot be reached."""
    request = urllib.request.Request(f"{supervisor}/services/mqtt", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            document = json.load(answer)
    except (OSError, ValueError) as error:
        tell(f"the Supervisor names no MQTT broker: {error}")
        return None
    data = document.get("data") if isinstance(document, dict) else None
    return data if isinstance(data, dict) and data.get("host") else None


def is_healthy(url: str) -> bool:
    """Whether the daemon answers, and says that it needs no restart."""
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS):
            return True
    except OSError:
        return False


def tell(text: str) -> None:
    """Writes a line of the add-on's log."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
