"""What a check has found."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tagger.config.at_once import at_once
from tagger.errors import UserError
from tagger.sources.portaudio import MissingDeviceError

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """What a check has found; one line, and what to do."""

    about: str
    """What was looked at: `broker`."""
    state: State
    said: str
    """Without secrets."""
    advice: str = ""
    """What to do. "": nothing."""
    is_mistake: bool = False
    """Whether the user's settings are wrong, so that the exit code is 2."""

    def to_json(self) -> dict[str, str]:
        return {"about": self.about, "state": self.state, "said": self.said, "advice": self.advice}


def failed(about: str, error: Exception, advice: str = "") -> Finding:
    """The finding of an error, whose message says what to do, unless there is other advice."""
    if isinstance(error, OSError):
        return Finding(about, "fail", error.strerror or str(error), advice)
    is_mistake = isinstance(error, UserError) and not isinstance(error, MissingDeviceError)
    return Finding(about, "fail", str(error), advice, is_mistake)


Check = tuple[str, Callable[[], Iterable[Finding]]]
"""What is looked at, and what looks."""


def findings(checks: Sequence[Check], wait_s: float) -> Iterator[Finding]:
    """Looks at everything at once, each in a thread of its own; gives what was found in the order of the checks.

    Args:
        wait_s: longest wait for all together, seconds. What hangs longer has failed.
    """
    looks = [lambda check=check: list(check()) for _, check in checks]
    results = at_once(looks, wait_s, [f"doctor-{about}" for about, _ in checks])
    for (about, _), found in zip(checks, results, strict=True):
        if found is None:
            yield Finding(about, "fail", f"no answer within {wait_s:g} s", "is it hung? try again")
        elif isinstance(found, list):
            yield from found
        else:
            yield failed(about, found)
