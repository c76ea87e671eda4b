"""MIDI files played by other instruments: the part of `scripts/nontarget.py` that renders brass, bells, drums.

A file of format 0 or 1 is read, and written again with other instruments. Each channel gets one of the kind's programs
of General MIDI, and channel 10 (drums) is left out. For the kind `percussion`, channel 10 alone stays.
"""

from collections.abc import Iterator
from dataclasses import dataclass

PROGRAMS: dict[str, tuple[int, ...]] = {
    "brass": (56, 57, 58, 59, 60, 61),
    "strings": (40, 41, 42, 43, 44, 45, 46, 48),
    "bells": (8, 9, 10, 11, 12, 13, 15, 108, 112, 113, 114),
    "winds": (64, 66, 68, 70, 71, 72, 73, 74, 75, 79, 21, 22, 109),
    "keys": (0, 1, 4, 6, 7, 16, 19, 24, 25, 26, 27, 32),
    "drones": (16, 18, 19, 20, 50, 52, 53, 89, 90, 91, 92, 94, 95),
    "percussion": (),
}
"""Programs of each kind, counted from 0. None of them is a sound of ESC-50: tubular bells (14) are left out."""
SLOWER = {"drones": 4}
"""Kinds that are played so many times slower."""
_DRUMS = 9
"""Number of the drums' channel, counted from 0."""
_CLAP = 39
"""Note of the drums that is clapping hands."""
_NOTE_OFF, _NOTE_ON, _CONTROL, _PROGRAM = 0x80, 0x90, 0xB0, 0xC0
_BANKS = (0, 32)
"""Controllers that choose a bank."""
_TEMPO = b"\xff\x51"


@dataclass(frozen=True)
class Event:
    """An event of a track."""

    delta: int
    """Ticks after the event before it."""
    data: bytes
    """With its status byte."""


@dataclass(frozen=True)
class Piece:
    """A MIDI file."""

    kind: int
    """Its format: 0 or 1."""
    division: int
    """Ticks of a quarter note."""
    tracks: tuple[tuple[Event, ...], ...]

    @property
    def seconds(self) -> float:
        """Time from the start to the last event."""
        changes, last = [(0, 500_000)], 0
        for track in self.tracks:
            at = 0
            for event in track:
                at += event.delta
                if event.data[:2] == _TEMPO:
                    changes.append((at, int.from_bytes(event.data[3:6], "big")))
            last = max(last, at)
        changes = [each for each in sorted(changes) if each[0] <= last]
        ends = [at for at, _ in changes[1:]] + [last]
        return sum((end - at) * tempo for (at, tempo), end in zip(changes, ends, strict=True)) / self.division / 1e6

    def played_by(self, kind: str, number: int) -> bytes:
        """The file with the instruments of `kind`; `number` chooses which of them begin."""
        programs = PROGRAMS[kind]
        chosen = {each: programs[(number + each) % len(programs)] for each in range(16)} if programs else {}
        start = [Event(0, bytes([_PROGRAM | each, program])) for each, program in chosen.items() if each != _DRUMS]
        tracks = [_kept(track, is_drums=not programs) for track in self.tracks]
        tracks[0] = start + tracks[0]
        division = max(1, self.division // SLOWER.get(kind, 1))
        head = b"MThd" + (6).to_bytes(4, "big")
        head += b"".join(each.to_bytes(2, "big") for each in (self.kind, len(tracks), division))
        return head + b"".join(map(_track, tracks))


def read(data: bytes) -> Piece:
    """Reads a file.

    Raises:
        ValueError: it is none of format 0 or 1, or is damaged.
    """
    try:
        if data[:4] != b"MThd":
            raise ValueError("no MIDI file")
        size = int.from_bytes(data[4:8], "big")
        kind, count, division = (int.from_bytes(data[8 + each : 10 + each], "big") for each in (0, 2, 4))
        if kind > 1 or not 0 < division < 0x8000:
            raise ValueError("a format that is not read")
        at, tracks = 8 + size, []
        for _ in range(count):
            length = int.from_bytes(data[at + 4 : at + 8], "big")
            if data[at : at + 4] != b"MTrk" or at + 8 + length > len(data):
                raise ValueError("ends early")
            tracks.append(tuple(_events(data[at + 8 : at + 8 + length])))
            at += 8 + length
    except IndexError as error:
        raise ValueError("ends early") from error
    if not any(tracks):
        raise ValueError("no events")
    return Piece(kind, division, tuple(tracks))


def _events(data: bytes) -> Iterator[Event]:
    at, status = 0, 0
    while at < len(data):
        delta, at = _number(data, at)
        if data[at] >= 0x80:
            status, at = data[at], at + 1
        if status in (0xF0, 0xF7, 0xFF):
            start = at
            at += status == 0xFF
            length, at = _number(data, at)
            at += length
            if at > len(data):
                raise ValueError("ends early")
            yield Event(delta, bytes([status]) + data[start:at])
        elif status < 0x80:
            raise ValueError("an event without a status")
        else:
            length = 1 if status & 0xF0 in (_PROGRAM, 0xD0) else 2
            if at + length > len(data):
                raise ValueError("ends early")
            yield Event(delta, bytes([status]) + data[at : at + length])
            at += length


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and the place after it."""
    value = 0
    while True:
        value = value << 7 | data[at] & 0x7F
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


def _kept(track: tuple[Event, ...], is_drums: bool) -> list[Event]:
    """A track with the drums alone or without them, without programs, banks and messages of one maker."""
    kept, waited = [], 0
    for event in track:
        status, channel = event.data[0] & 0xF0, event.data[0] & 0x0F
        is_own = event.data[0] < 0xF0 and (
            (channel == _DRUMS) != is_drums
            or status == _PROGRAM
            or (status == _CONTROL and event.data[1] in _BANKS)
            or (is_drums and status in (_NOTE_ON, _NOTE_OFF) and event.data[1] == _CLAP)
        )
        waited += event.delta
        if not is_own and event.data[0] not in (0xF0, 0xF7):
            kept.append(Event(waited, event.data))
            waited = 0
    return kept


def _track(events: list[Event]) -> bytes:
    body = b"".join(_bytes(event.delta) + event.data for event in events)
    return b"MTrk" + len(body).to_bytes(4, "big") + body


def _bytes(number: int) -> bytes:
    found = [number & 0x7F]
    while number := number >> 7:
        found.append(number & 0x7F | 0x80)
    return bytes(reversed(found))
