"""Sounds as 16-bit samples at 16 kHz, by FFmpeg and FluidSynth: the part of `scripts/nontarget.py` that makes them."""

import hashlib
import os
import subprocess
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

RATE_HZ = 16_000
MIX_S = 300
"""Length of a mixed file."""
LONGEST_S = 600
"""Longest part of a MIDI file."""
TOGETHER = 32
"""Files that FFmpeg reads in one run."""
LEAST_PEAK = 150
"""Lowest peak (of 32767) of what can be heard."""


def md5(text: str) -> bytes:
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()


def seconds(sound: bytes) -> float:
    """Duration of 16-bit samples."""
    return len(sound) / 2 / RATE_HZ


def is_audible(sound: bytes) -> bool:
    return max(map(abs, array("h", sound))) >= LEAST_PEAK


def run(*command: str | Path, cwd: Path | None = None, given: bytes = b"") -> bytes:
    """Standard output of an external program. Raises RuntimeError with the last line of its standard error."""
    english = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(command, cwd=cwd, input=given, capture_output=True, env=english, check=False)
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip().splitlines() or ["failed"]
        raise RuntimeError(f"{command[0]}: {complaint[-1]}")
    return done.stdout


def decode(path: Path, most_s: float) -> bytes:
    """The beginning of an audio file as 16-bit samples; nothing if FFmpeg cannot read it."""
    return next(decoded([path], most_s))


def decoded(paths: Sequence[Path], most_s: float) -> Iterator[bytes]:
    """`decode` for many files, some at a time: most of a short sound's time is FFmpeg's start."""
    for first in range(0, len(paths), TOGETHER):
        some = paths[first : first + TOGETHER]
        with tempfile.TemporaryDirectory(prefix="nontarget-") as folder:
            written = [Path(folder, f"{number}.raw") for number in range(len(some))]
            inputs = [part for path in some for part in ("-t", str(most_s), "-i", path)]
            form = ("-vn", "-ac", "1", "-ar", str(RATE_HZ), "-f", "s16le")
            outputs = [part for at, path in enumerate(written) for part in ("-map", f"{at}:a:0", *form, path)]
            try:
                run("ffmpeg", "-v", "error", "-threads", "1", *inputs, *outputs)
                sounds = [path.read_bytes() for path in written]
            except RuntimeError:
                # One of them cannot be read.
                sounds = [b""] if len(some) == 1 else [decode(path, most_s) for path in some]
        yield from sounds


def render(piece: bytes, font: Path) -> bytes:
    """A MIDI file as 16-bit samples."""
    with tempfile.TemporaryDirectory(prefix="nontarget-") as folder:
        written, played = Path(folder, "piece.mid"), Path(folder, "piece.wav")
        written.write_bytes(piece)
        options = ("-n", "-i", "-q", "-g", "0.6", "-r", "32000", "-T", "wav", "-O", "s16", "-F", played)
        run("fluidsynth", *options, font, written)
        return decode(played, LONGEST_S)


def encode(sound: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    raw = ("-f", "s16le", "-ar", str(RATE_HZ), "-ac", "1", "-i", "-")
    vorbis = ("-threads", "1", "-c:a", "libvorbis", "-q:a", "5", "-fflags", "+bitexact", "-flags:a", "+bitexact")
    run("ffmpeg", "-v", "error", "-y", *raw, *vorbis, "-f", "ogg", part, given=sound)
    part.replace(path)


def mixed(kind: str, paths: Sequence[Path], number: int) -> bytes:
    """Samples of these files together: the last at full level in a radio or film; all alike and echoing in a crowd."""
    # Gains in dB, and starts in seconds, that differ from file to file.
    draws = [int.from_bytes(md5(f"{kind} {number} {at}")[:2], "big") / 65536 for at in range(len(paths))]
    if kind == "crowd":
        gains, ends = [-12 * draw for draw in draws], "lowpass=f=5000,aecho=0.8:0.8:23|47|83|131:0.5|0.4|0.3|0.2,"
    else:
        gains, ends = [*(-6 - 12 * draw for draw in draws[:-1]), 0.0], "highpass=f=100,lowpass=f=7000,"
    inputs = [part for path, draw in zip(paths, draws, strict=True) for part in (
        "-stream_loop", "-1", "-ss", f"{20 * draw:.2f}", "-i", path)]  # fmt: skip
    levels = "".join(f"[{at}:a]dynaudnorm,volume={gain:.1f}dB[p{at}];" for at, gain in enumerate(gains))
    together = "".join(f"[p{at}]" for at in range(len(paths))) + f"amix=inputs={len(paths)}:normalize=0,"
    graph = f"{levels}{together}{ends}volume=-9dB,alimiter=limit=0.9"
    output = ("-t", str(MIX_S), "-ac", "1", "-ar", str(RATE_HZ), "-f", "s16le", "-")
    return run("ffmpeg", "-v", "error", "-threads", "1", *inputs, "-filter_complex", graph, *output)
