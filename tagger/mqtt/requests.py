"""Requests over MQTT: validates them, limits their rate, and passes them to the daemon's controls.

A request is JSON on `.../request/<kind>`; its answer is JSON on `.../response/<kind>`, with the same `transaction`:

    {"transaction": "7", "label": "dog", "enter": 0.9}
    {"transaction": "7", "status": "ok", "data": {...}}, or {"transaction": "7", "status": "error", "error": "..."}
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tagger import unforeseen
from tagger.errors import TaggerError, UserError, near

log = logging.getLogger(__name__)

_MAX_BYTES = 4096
_LONGEST_KIND = 100
"""Letters of a request's name; a request of a longer one is not answered."""
_MAX_TRANSACTION_CHARACTERS = 128
_BURST, _PER_SECOND = 10, 1.0
"""Token bucket: number of requests at once, and number a second after that."""


class Controls(Protocol):
    """The daemon, seen by requests. Each method returns the `data` of the answer, and raises UserError if it cannot."""

    def pause(self, source: str | None, paused: bool) -> dict[str, Any]: ...

    def threshold(self, source: str | None, label: str, enter: float) -> dict[str, Any]: ...

    def labels(self, source: str | None) -> dict[str, Any]: ...

    def test(self, source: str | None, label: str, duration_s: float) -> dict[str, Any]: ...


class Requests:
    """Answers requests. For one thread."""

    def __init__(self, controls: Controls, clock: Callable[[], float] = time.monotonic) -> None:
        self._controls, self._clock = controls, clock
        self._tokens, self._refilled_at = float(_BURST), clock()
        self._flood_logged_at = -60.0
        self.refused = 0
        """Number of requests that came too fast."""
        self._kinds: Mapping[str, _RequestKind] = {
            "pause": _RequestKind({}, {"source": str}, lambda source=None: controls.pause(source, True)),
            "resume": _RequestKind({}, {"source": str}, lambda source=None: controls.pause(source, False)),
            "threshold": _RequestKind(
                {"label": str, "enter": float},
                {"source": str},
                lambda label, enter, source=None: controls.threshold(source, label, enter),
            ),
            "labels": _RequestKind({}, {"source": str}, lambda source=None: controls.labels(source)),
            "test": _RequestKind(
                {"label": str},
                {"source": str, "duration_s": float},
                lambda label, source=None, duration_s=1.0: controls.test(source, label, duration_s),
            ),
        }

    def answer(self, kind: str, payload: bytes) -> dict[str, Any] | None:
        """Executes a request from `.../request/<kind>`.

        Returns:
            The answer for `.../response/<kind>`. None: no answer, so that a flood is not answered by a flood.
        """
        transaction, is_allowed = None, self._take_token()
        if len(kind) > _LONGEST_KIND:  # its answer's topic might be longer than MQTT allows
            if is_allowed:
                log.warning("MQTT: request %s: no such request", _quote(kind))
            return None
        try:
            request = _parse(payload)
            transaction = _check_transaction(request.pop("transaction", None))
            if is_allowed:
                data = self._execute(kind, request)
        except TaggerError as error:
            if is_allowed:
                return _answer(transaction, "error", "error", str(error))
        except Exception as error:
            unforeseen.tell("MQTT: a request", error)
            if is_allowed:
                return _answer(transaction, "error", "error", "something failed; the log says what")
        if not is_allowed:
            return self._reject_flood(transaction)
        log.info("MQTT: request %s: done", kind)
        return _answer(transaction, "ok", "data", data)

    def switch(self, source: str, payload: bytes) -> bool | None:
        """Pauses or resumes a source, by a payload of `.../<source>/enabled/set`.

        Returns:
            Whether the source is now enabled. None: nothing has changed.
        """
        try:
            if not self._take_token():
                self._reject_flood(None)
                return None
            if payload not in (b"ON", b"OFF"):
                raise UserError("must be ON or OFF")
            self._controls.pause(source, payload == b"OFF")
        except TaggerError as error:
            log.warning("MQTT: %s/enabled/set: %s", _quote(source), error)
            return None
        except Exception as error:
            unforeseen.tell("MQTT: a source's enabled/set", error)
            return None
        return payload == b"ON"

    def _execute(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        """
        Raises:
            UserError: the kind or a field is unknown; a field is missing or has a wrong type.
        """
        if kind not in self._kinds:
            raise UserError(f"{_quote(kind)}: no such request{near(kind[:60], self._kinds)}")
        known = self._kinds[kind]
        fields = {**known.required, **known.optional}
        for key, value in request.items():
            if key not in fields:
                raise UserError(f"{_quote(key)}: is unknown{near(key[:60], ['transaction', *fields])}")
            types = (int, float) if fields[key] is float else fields[key]
            if isinstance(value, bool) or not isinstance(value, types):
                raise UserError(f"{key}: must be {'a number' if fields[key] is float else 'a text'}")
        if missing := [key for key in known.required if key not in request]:
            raise UserError(f"{kind}: needs {', '.join(missing)}")
        return known.run(**request)

    def _take_token(self) -> bool:
        now = self._clock()
        self._tokens = min(_BURST, self._tokens + (now - self._refilled_at) * _PER_SECOND)
        self._refilled_at = now
        is_allowed = self._tokens >= 1
        self._tokens -= is_allowed
        return is_allowed

    def _reject_flood(self, transaction: Any) -> dict[str, Any] | None:
        """Returns an error once a second, and None in between."""
        self.refused += 1
        now = self._clock()
        if now - self._flood_logged_at < 1 / _PER_SECOND:
            return None
        self._flood_logged_at = now
        text = f"too many requests: {_PER_SECOND:g} a second are obeyed"
        log.warning("MQTT: %s", text)
        return _answer(transaction, "error", "error", text)


@dataclass(frozen=True)
class _RequestKind:
    """A kind of request: its fields (name -> type), and the function that executes it."""

    required: Mapping[str, type]
    optional: Mapping[str, type]
    run: Callable[..., dict[str, Any]]


def _check_transaction(value: Any) -> str | float | None:
    is_finite = not isinstance(value, float) or math.isfinite(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float | None) or not is_finite:
        raise UserError("transaction: must be a text or a number")
    if len(str(value)) > _MAX_TRANSACTION_CHARACTERS:
        raise UserError(f"transaction: must have at most {_MAX_TRANSACTION_CHARACTERS} characters")
    return value


def _parse(payload: bytes) -> dict[str, Any]:
    if len(payload) > _MAX_BYTES:
        raise UserError(f"a request of {len(payload)} bytes; at most {_MAX_BYTES} are read")
    if not payload.strip():
        return {}
    try:
        request = json.loads(payload, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        raise UserError('a request must be JSON, such as {"transaction": "1"}') from None
    if not isinstance(request, dict):
        raise UserError('a request must be a JSON object, such as {"transaction": "1"}')
    return request


def _reject_constant(text: str) -> float:
    raise ValueError(text)


def _answer(transaction: Any, status: str, key: str, value: Any) -> dict[str, Any]:
    return {**({} if transaction is None else {"transaction": transaction}), "status": status, key: value}


def _quote(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
