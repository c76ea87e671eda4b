"""Time stamps of a track that FFmpeg reads, and where they say that sound is missing."""

from typing import Any

_JUMP_SECONDS = 0.1
"""A time stamp that is later than the sound before it explains by more than this means that sound is missing."""
_RESTART_SECONDS = 1.0
"""A time stamp that is earlier by more than this means that the time stamps begin anew, as in joined files."""
_LATEST_SECONDS = 86_400.0
"""Latest position that a time stamp is believed, where the header tells no length."""


class TrackClock:
    """Follows the time stamps of a track, and tells where sound is missing.

    Between two gaps, time is what the samples say: time stamps are rounded, and some recorders' are not even.
    """

    def __init__(self, container: Any, stream: Any, has_stamps: bool) -> None:
        """
        Args:
            container: PyAV's.
            stream: the track, one of the container's.
            has_stamps: whether the format has time stamps of its own. If not, no sound is ever missing.
        """
        self._has_stamps = has_stamps
        self.heard_s = 0.0
        """Sound until now, seconds."""
        self._position_s = 0.0
        """End of the sound until now, since the recording began, seconds."""
        self._offset_s: float | None = None if container.start_time is None else -container.start_time / 1e6
        """What is added to a time stamp to get the position, seconds. None: the first time stamp will say it."""
        start_s = 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base)
        self._start_s = max(0.0, start_s + (self._offset_s or 0.0))
        """Where the track begins in the recording, seconds."""
        self._last_s = _LATEST_SECONDS if container.duration is None else container.duration / 1e6 + 1.0
        """Latest position that a time stamp is believed, seconds."""

    @property
    def end_s(self) -> float:
        """End of the sound, since its own track began, seconds."""
        return max(self._position_s - self._start_s, self.heard_s)

    def missing(self, frame: Any) -> float:
        """Time without sound before a frame, seconds. It counts as passed."""
        if not self._has_stamps or frame.pts is None or frame.time_base is None:
            return 0.0
        stamp_s = float(frame.pts * frame.time_base)
        if self._offset_s is None:
            self._offset_s = -stamp_s
        late_s = stamp_s + self._offset_s - self._position_s
        if late_s > _JUMP_SECONDS and self._position_s + late_s <= self._last_s:
            self._position_s += late_s
            return late_s
        if abs(late_s) > _RESTART_SECONDS:  # the time stamps begin anew, or are damaged
            self._offset_s -= late_s
        return 0.0

    def advance(self, seconds: float) -> None:
        """Counts sound that was given."""
        self._position_s += seconds
        self.heard_s += seconds
