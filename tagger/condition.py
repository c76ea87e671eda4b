"""How a source is: whether its audio flows, and if not, why. One small value, which health, MQTT and status read."""

from dataclasses import dataclass
from typing import Any, Literal

from tagger.errors import TaggerError
from tagger.times import rfc3339

State = Literal["starting", "hearing", "silent", "retrying", "off", "ended"]
"""State of a source.

starting: it was not opened yet, or nothing has come since the start.
hearing: audio comes.
silent: samples come, all the same: digital zeros.
retrying: it is gone, or never came; it is opened again after a wait.
off: it is not wanted now: paused, or outside its schedule.
ended: a recording is over, a source that is not live has failed, or the daemon stops.
"""

Reason = Literal[
    "",
    "cannot_connect",
    "refused",
    "certificate",
    "password",
    "not_found",
    "no_bytes",
    "no_sound",
    "not_audio",
    "gone",
    "zeros",
    "quiet",
    "clock",
    "missing",
    "paused",
    "schedule",
    "failed",
]
"""Why a source is as it is, for programs.

"": nothing is wrong.
cannot_connect: no answer, no way there, or its name has no address.
refused: the other machine is there and takes no connection.
certificate: the server's certificate is not trusted.
password: user or password is wrong or missing.
not_found: the server has no such stream.
no_bytes: connected, and nothing comes any more.
no_sound: bytes come that hold no sound.
not_audio: what comes is damaged, or no audio.
gone: the stream ended, the connection broke, or the device was unplugged.
zeros: nothing but digital silence comes.
quiet: sound comes, softer than any room's.
clock: the stream's time stamps cannot be right; its sound is dated by its arrival.
missing: there is no such device now.
paused: somebody paused it.
schedule: it is outside the hours of its schedule.
failed: something else, which the detail says.
"""


@dataclass(frozen=True)
class Condition:
    """How a source is at one moment."""

    state: State = "starting"
    reason: Reason = ""
    detail: str = ""
    """The reason in words, without secrets; "" where nothing is wrong."""
    since: float = 0.0
    """Since when state and reason are these, seconds since the epoch."""
    reconnects: int = 0
    """Times that it came back after it was gone."""
    last_audio_s: float | None = None
    """Age of the newest audio, seconds. None: none came yet."""

    @property
    def is_healthy(self) -> bool:
        """Whether nothing needs to be done about it. A softly humming room is healthy, digital zeros are not."""
        return self.state in ("hearing", "off", "ended") and self.reason != "failed"

    def to_json(self) -> dict[str, Any]:
        """As part of the message on `stats`."""
        return {
            "state": self.state,
            "reason": self.reason,
            "detail": self.detail,
            "since": rfc3339(self.since),
            "reconnects": self.reconnects,
            "last_audio_s": None if self.last_audio_s is None else round(self.last_audio_s, 1),
        }


class SourceError(TaggerError):
    """A live source broke, or cannot be opened now. It may come back."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """
        Args:
            detail: the reason in words, without secrets.
        """
        super().__init__(detail)
        self.reason = reason


def reason_of(error: TaggerError) -> Reason:
    """The reason of an error that a live source raised: `gone` where it does not say any."""
    return getattr(error, "reason", "gone")
