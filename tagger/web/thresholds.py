"""Thresholds, for the page: what others would have given, the marks of the review beside it, and setting one."""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tagger import unforeseen
from tagger.errors import TaggerError, UserError, near
from tagger.policy import Policy
from tagger.times import rfc3339
from tagger.web import whatif
from tagger.web.asked import unknown
from tagger.web.clips import Clips
from tagger.web.replay import least_enter

log = logging.getLogger(__name__)

_FRESH_SECONDS = 60.0
"""Time for which an answer is given again, seconds: the history is written once a minute."""
_MOST_REMEMBERED = 64
_MOST_STEPS = 400
"""Most questions in a row by which one that was left out is counted: two hours."""


@dataclass
class Thresholds:
    """Any thread calls it; its methods wait for a process that counts, one at a time."""

    history: Callable[[], Path | None]
    """The history of scores. None: there is none."""
    policy_of: Callable[[str], Policy | None]
    """What counts as an event of a source."""
    node: str
    change: Callable[[str | None, str, float], Mapping[str, Any]]
    """Sets a threshold of one source, or of all; raises UserError."""
    clips: Clips | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _going_on: threading.Lock = field(default_factory=threading.Lock)
    """Held while what was left out of an answer is counted."""
    _known: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)

    def count(self, wanted: Mapping[str, str]) -> dict[str, Any]:
        """What each threshold of a label would have given; without a label, which labels were heard.

        Args:
            wanted: the parameters of the request: `source`, and `label`.

        Raises:
            UserError: a parameter is wrong.
            TaggerError: the history or the marks cannot be read, or the count failed.
        """
        unknown(wanted, {"source", "label"})
        source, label = wanted.get("source", ""), wanted.get("label")
        policy = self.policy_of(source)
        if policy is None:
            raise UserError(f"source: there is no {source[:60]!r}")
        path = self.history()
        asked = {"path": str(path), "node": self.node, "source": source}
        if label is None:
            found = self._ask(asked)["labels"] if path is not None and path.exists() else {}
            labels = [
                {
                    "label": name,
                    "enter": rules.enter,
                    "announced": name not in policy.denied,
                    "heard": found.get(name, 0),
                }
                for name, rules in zip(policy.labels, policy.each, strict=True)
            ]
            return {"kept": path is not None, "source": source, "labels": labels}
        if label not in policy.labels:
            raise UserError(f"label: this model has no {label[:60]!r}{near(label[:60], policy.labels)}")
        rules = policy.each[policy.labels.index(label)]
        empty: dict[str, Any] = {
            "since": None,
            "until": None,
            "windows": 0,
            "counts": [],
            "reviewed": {"right": 0, "wrong": 0},
        }
        found = empty
        if path is not None and path.exists():
            found = self._ask(
                asked | {"label": label, "rules": whatif.rules_json(rules), "marks": self._marks(source, label)}
            )
        return {
            "kept": path is not None,
            "source": source,
            "label": label,
            "enter": rules.enter,
            "exit": rules.exit,
            "announced": label not in policy.denied,
            "least": least_enter(rules),
            **found,
            "since": None if found["since"] is None else rfc3339(found["since"]),
            "until": None if found["until"] is None else rfc3339(found["until"]),
        }

    def set(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Sets a threshold, as the MQTT request does.

        Args:
            wanted: `source` (null: all), `label` and `enter`.

        Raises:
            UserError: one of them is wrong.
        """
        if set(wanted) != {"source", "label", "enter"}:
            raise UserError('the body must be {"source": NAME or null, "label": LABEL, "enter": NUMBER}')
        source, label, enter = wanted["source"], wanted["label"], wanted["enter"]
        if not (source is None or isinstance(source, str)) or not isinstance(label, str):
            raise UserError("source and label must be texts")
        if isinstance(enter, bool) or not isinstance(enter, int | float) or not -1e9 < enter < 1e9:
            raise UserError("enter: must be a number")
        changed = dict(self.change(source, label, float(enter)))
        return {**changed, "toml": toml(label, changed["enter"])}

    def _marks(self, source: str, label: str) -> list[tuple[float, float, bool]]:
        """Onset, offset and whether it was right, of each reviewed event."""
        if self.clips is None:
            return []
        return [
            (clip.onset, clip.offset, clip.verdict == "right")
            for clip in self.clips.by_id().values()
            if clip.verdict is not None and clip.label == label and clip.stream == f"{self.node}/{source}"
        ]

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        key = json.dumps(question)
        with self._lock:
            asked_at, found = self._known.get(key, (0.0, None))
            if found is None or time.monotonic() - asked_at > _FRESH_SECONDS:
                found = self._count(key, question)
        if _is_partial(found) and not self._going_on.locked():
            threading.Thread(target=self._go_on, args=[key, question], name="counting", daemon=True).start()
        return found

    def _count(self, key: str, question: dict[str, Any]) -> dict[str, Any]:
        """Called with the lock."""
        found = whatif.ask(question | {"now": time.time()})
        self._known.pop(key, None)
        self._known[key] = (time.monotonic(), found)
        while len(self._known) > _MOST_REMEMBERED:
            del self._known[next(iter(self._known))]
        return found

    def _go_on(self, key: str, question: dict[str, Any]) -> None:
        """Counts what was left out of an answer, some seconds at a time, so that others who ask wait no longer."""
        if not self._going_on.acquire(blocking=False):
            return  # another question is counted
        try:
            for _ in range(_MOST_STEPS):
                with self._lock:
                    if not _is_partial(self._count(key, question)):
                        return
        except TaggerError as error:
            log.debug("counting for thresholds: %s", error)
        except Exception as error:
            unforeseen.tell("the live page: counting for thresholds", error)
        finally:
            self._going_on.release()


def _is_partial(found: Mapping[str, Any]) -> bool:
    """Whether a span was left out."""
    return any(None in row.values() for row in found.get("counts", ()))


def toml(label: str, enter: float) -> str:
    """The lines that make a threshold last."""
    return f"[events.labels.{json.dumps(label, ensure_ascii=False)}]\nenter = {enter:g}\n"
