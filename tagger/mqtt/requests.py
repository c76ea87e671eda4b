"""Requests over MQTT: checked, and no more of them than a person would make. What they do is done elsewhere.

A request is JSON on `.../request/<what>`; its answer is JSON on `.../response/<what>`, with its `transaction`:

    {"transaction": "7", "label": "dog", "enter": 0.9}
    {"transaction": "7", "status": "ok", "data": {...}}, or {"transaction": "7", "status": "error", "error": "..."}
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tagger.errors import UserError, near

log = logging.getLogger(__name__)

_LONGEST_BYTES = 4096
_LONGEST_TRANSACTION = 128
_BURST, _PER_SECOND = 10, 1.0
"""So many requests at once, and so many a second after that."""


class Controls(Protocol):
    """What can be asked of the daemon. Each returns what the answer tells, and raises UserError where it cannot."""

    def pause(self, source: str | None, paused: bool) -> dict[str, Any]: ...

    def threshold(self, source: str | None, label: str, enter: float) -> dict[str, Any]: ...

    def labels(self, source: str | None) -> dict[str, Any]: ...

    def test(self, source: str | None, label: str, duration_s: float) -> dict[str, Any]: ...


class Requests:
    """Answers them; all are refused unless `enabled`. For one thread."""

    def __init__(self, controls: Controls, enabled: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._controls, self._enabled, self._clock = controls, enabled, clock
        self._tokens, self._filled = float(_BURST), clock()
        self._refused_at = -60.0
        self.refused = 0
        """Requests that came too fast."""
        self._known: Mapping[str, _Request] = {
            "pause": _Request({}, {"source": str}, lambda source=None: controls.pause(source, True)),
            "resume": _Request({}, {"source": str}, lambda source=None: controls.pause(source, False)),
            "threshold": _Request(
                {"label": str, "enter": float},
                {"source": str},
                lambda label, enter, source=None: controls.threshold(source, label, enter),
            ),
            "labels": _Request({}, {"source": str}, lambda source=None: controls.labels(source)),
            "test": _Request(
                {"label": str},
                {"source": str, "duration_s": float},
                lambda label, source=None, duration_s=1.0: controls.test(source, label, duration_s),
            ),
        }

    def answer(self, what: str, payload: bytes) -> dict[str, Any] | None:
        """What is to be published on `.../response/<what>`. None: nothing, lest a flood be answered by a flood."""
        transaction, may_go_on = None, self._take_token()
        try:
            request = _parsed(payload)
            transaction = _transaction(request.pop("transaction", None))
            if may_go_on:
                data = self._obey(what, request)
        except UserError as error:
            if may_go_on:
                return _answer(transaction, "error", "error", str(error))
        if not may_go_on:
            return self._too_many(transaction)
        log.info("MQTT: request %s: done", what)
        return _answer(transaction, "ok", "data", data)

    def enable(self, source: str, payload: bytes) -> bool | None:
        """`.../<source>/enabled/set`, for a switch: its answer is the topic `enabled`.

        Returns:
            What that is to say. None: nothing was changed.
        """
        try:
            if not self._take_token():
                self._too_many(None)
                return None
            self._check_enabled()
            if payload not in (b"ON", b"OFF"):
                raise UserError("must be ON or OFF")
            self._controls.pause(source, payload == b"OFF")
        except UserError as error:
            log.warning("MQTT: %s/enabled/set: %s", _short(source), error)
            return None
        return payload == b"ON"

    def _obey(self, what: str, request: dict[str, Any]) -> dict[str, Any]:
        self._check_enabled()
        if what not in self._known:
            raise UserError(f"{_short(what)}: no such request{near(what[:60], self._known)}")
        known = self._known[what]
        fields = {**known.required, **known.optional}
        for key, value in request.items():
            if key not in fields:
                raise UserError(f"{_short(key)}: is unknown{near(key[:60], ['transaction', *fields])}")
            kind = (int, float) if fields[key] is float else fields[key]
            if isinstance(value, bool) or not isinstance(value, kind):
                raise UserError(f"{key}: must be {'a number' if fields[key] is float else 'a text'}")
        if missing := [key for key in known.required if key not in request]:
            raise UserError(f"{what}: needs {', '.join(missing)}")
        return known.do(**request)

    def _check_enabled(self) -> None:
        if not self._enabled:
            raise UserError("requests are not allowed here; start with --commands, or write commands = true in [mqtt]")

    def _take_token(self) -> bool:
        now = self._clock()
        self._tokens = min(_BURST, self._tokens + (now - self._filled) * _PER_SECOND)
        self._filled = now
        may_go_on = self._tokens >= 1
        self._tokens -= may_go_on
        return may_go_on

    def _too_many(self, transaction: Any) -> dict[str, Any] | None:
        """Said once a second."""
        self.refused += 1
        now = self._clock()
        if now - self._refused_at < 1 / _PER_SECOND:
            return None
        self._refused_at = now
        said = f"too many requests: {_PER_SECOND:g} a second are obeyed"
        log.warning("MQTT: %s", said)
        return _answer(transaction, "error", "error", said)


@dataclass(frozen=True)
class _Request:
    """A kind of request: its fields, and what is done."""

    required: Mapping[str, type]
    optional: Mapping[str, type]
    do: Callable[..., dict[str, Any]]


def _transaction(value: Any) -> str | int | None:
    if value is not None and not isinstance(value, str | int):
        raise UserError("transaction: must be a text or a number")
    if len(str(value)) > _LONGEST_TRANSACTION:
        raise UserError(f"transaction: must have at most {_LONGEST_TRANSACTION} characters")
    return value


def _parsed(payload: bytes) -> dict[str, Any]:
    if len(payload) > _LONGEST_BYTES:
        raise UserError(f"a request of {len(payload)} bytes; at most {_LONGEST_BYTES} are read")
    if not payload.strip():
        return {}
    try:
        request = json.loads(payload, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise UserError('a request must be JSON, such as {"transaction": "1"}') from None
    if not isinstance(request, dict):
        raise UserError('a request must be a JSON object, such as {"transaction": "1"}')
    return request


def _no_number(text: str) -> float:
    raise ValueError(text)


def _answer(transaction: Any, status: str, key: str, value: Any) -> dict[str, Any]:
    return {**({} if transaction is None else {"transaction": transaction}), "status": status, key: value}


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
