"""Gathers sounds that are none of ESC-50's fifty from Debian's packages: speech, music, instruments and sound effects.

    python scripts/nontarget.py nontarget/ --set test

Needs Debian or Ubuntu (`apt-get download`: no root, nothing is installed), FFmpeg, and no Python packages. It downloads
one package at a time, unpacks it into a temporary folder, cuts its sounds and deletes it. It writes 16 kHz mono Ogg
Vorbis, DEST/SET/KIND/PACKAGE__NAME.ogg, and DEST/manifest.csv, which names the origin of each file. Packages in the
manifest are skipped, so after Ctrl-C the same command continues.

nontarget.csv, beside this file, lists the packages. In each line `only` and `except` are regular expressions of paths,
`seconds` is the approximate length taken (empty: all), and `licence` names a licence that the package does not state in
a readable form. Music stays in its tracks; clips of all other kinds are joined into longer files.
"""

import argparse
import csv
import hashlib
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

RATE_HZ = 16_000
PAUSE_S = 0.5
"""Silence after each joined clip."""
JOINED_S = {"speech": 300, "instrument": 120, "effects": 120}
"""A file of joined clips ends with the clip that makes it this long."""
CLIP_S = {"speech": 60, "instrument": 10, "effects": 12}
"""Longest clip; a longer one is cut. A longer effect is left out: it is a melody or the sound of a place."""
COLUMNS = "path,set,kind,package,version,seconds,licence"
TRACK_S = 45, 600
"""Shortest and longest part that is taken of a track."""
MUSIC_BYTES = 250_000
"""Smallest file that counts as music, in packages whose line has no `only`."""
LEAST_BYTES, LEAST_S, LEAST_PEAK = 800, 0.15, 150
"""Smallest file, shortest clip and lowest peak (of 32767); anything below is left out."""

AUDIO = re.compile(r"\.(ogg|oga|wav|mp3|flac|opus|au|spx|g722)$", re.I)
NO_EFFECT = re.compile(
    "weapons?/|ringtone|announcer|tutorial|campaign|taunt|countdown|player|footst|ambien|music|voice|speech", re.I
)
"""Paths of files that are no sound effects, or might be one of ESC-50's sounds."""
LIKE_ESC50 = re.compile(
    "animal|dog|bark|wolf|cat|cow|pig|boar|sheep|rooster|cock|hen|bird|crow|frog|cricket|insect|bee|fly|bug|growl|hiss|"
    "water|wave|rain|splash|splat|drip|drop|swim|sink|bubbl|ripple|wind|storm|thunder|ice|fire|crackl|smolder|lava|"
    "baby|cry|scream|cough|sneez|laugh|yell|talk|moan|blubber|pain|hurt|die|breath|snor|burp|eat|bite|drink|applau|"
    "clap|cheer|step|walk|run|knock|door|lock|clic|button|switch|typ|mouse|keyboard|creak|can|box|open|wash|vacuum|"
    "alarm|alert|warn|tick|tock|glass|break|bell|chime|ding|phone|buzz|fan|pump|siren|horn|engine|car|tank|vehicle|"
    "harvester|train|plane|jet|flight|chopper|ship|wheel|roll|skid|screech|spin|saw|hammer|wood|drum|bat|ball|flip|"
    "tile|dirt|skip|crash|collid|impact|hit|snap|swish|blow|air|explo|boom|blast|bomb|nuke|missile|bazoo|artil|turret|"
    "sniper|shot|gun|weapon|beam|attack|kill|damage|destroy|enem|alien|unit|mov|idle|camp|intro",
    re.I,
)
"""File names of sound effects that might be one of ESC-50's sounds; rather too many than too few."""


class UserError(Exception):
    """A problem that the user can solve."""


class AbsentError(Exception):
    """This release of Debian does not have the package."""


@dataclass(frozen=True)
class Choice:
    """A line of nontarget.csv: the files to take from a package."""

    set: str
    kind: str
    package: str
    seconds: float
    only: str
    without: str
    licence: str

    def paths(self, root: Path) -> list[Path]:
        """The chosen audio files under `root`, in the order of the hash of their path (all of them: of the path)."""
        inside = {path: path.relative_to(root).as_posix() for path in root.rglob("*") if AUDIO.search(path.name)}
        chosen = sorted((path for path in inside if self.means(path, inside[path])), key=inside.__getitem__)
        if self.seconds < math.inf:
            chosen.sort(key=lambda path: md5(inside[path]))
        return chosen

    def means(self, path: Path, inside: str) -> bool:
        if path.is_symlink() or path.stat().st_size < LEAST_BYTES or not re.search(self.only, inside):
            return False
        if self.without and re.search(self.without, inside, re.I):
            return False
        if self.kind == "effects":
            return not NO_EFFECT.search(inside) and not LIKE_ESC50.search(path.name)
        return self.kind != "music" or bool(self.only) or path.stat().st_size >= MUSIC_BYTES

    def tracks(self, paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
        """Names and samples of the files to write: one for each path."""
        taken_s = 0.0
        for path in paths:
            sound = decode(path, min(TRACK_S[1], max(TRACK_S[0], 1.15 * self.seconds / len(paths))))
            if seconds(sound) >= 1 and is_audible(sound):
                taken_s += seconds(sound)
                yield path.stem, sound
            if taken_s >= self.seconds:
                break

    def joined(self, paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
        """Names and samples of the files to write: many paths in one file."""
        taken_s, number, joined, seen = 0.0, 0, b"", set[bytes]()
        for path in paths:
            sound = decode(path, CLIP_S[self.kind] + (self.kind == "effects"))
            too_long = seconds(sound) > CLIP_S[self.kind]
            if too_long or seconds(sound) < LEAST_S or not is_audible(sound) or sound in seen:
                continue
            seen.add(sound)
            joined += sound + bytes(2 * round(PAUSE_S * RATE_HZ))
            taken_s += seconds(sound) + PAUSE_S
            if seconds(joined) >= JOINED_S[self.kind]:
                yield f"cat{number:02d}", joined
                joined, number = b"", number + 1
            if taken_s >= self.seconds:
                break
        if seconds(joined) > 3:
            yield f"cat{number:02d}", joined


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
    output = ("-vn", "-ac", "1", "-ar", str(RATE_HZ), "-f", "s16le", "-")
    try:
        return run("ffmpeg", "-v", "error", "-threads", "1", "-i", path, "-t", str(most_s), *output)
    except RuntimeError:
        return b""


def encode(sound: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    raw = ("-f", "s16le", "-ar", str(RATE_HZ), "-ac", "1", "-i", "-")
    vorbis = ("-threads", "1", "-c:a", "libvorbis", "-q:a", "5", "-fflags", "+bitexact", "-flags:a", "+bitexact")
    run("ffmpeg", "-v", "error", "-y", *raw, *vorbis, "-f", "ogg", part, given=sound)
    part.replace(path)


def unpack(package: str, root: Path) -> str:
    """Downloads a package and unpacks it into `root`/`package`. Returns its version."""
    try:
        run("apt-get", "download", "-o", "Acquire::Retries=3", package, cwd=root)
    except RuntimeError as error:
        if re.search("Unable to locate|Can't find a source|no installation candidate", str(error)):
            raise AbsentError(package) from error
        raise
    (deb,) = root.glob("*.deb")
    version = run("dpkg-deb", "--field", deb, "Version").decode().strip()
    run("dpkg-deb", "--extract", deb, root / package)
    deb.unlink()
    for archive in sorted(root.rglob("*.pk3")):
        with zipfile.ZipFile(archive) as pack:
            pack.extractall(root / package / "unz", [name for name in pack.namelist() if AUDIO.search(name)])
    for queen in root.rglob("queen.1c"):
        unpack_queen(queen.read_bytes(), root / "queen-mp3")
    return version


def unpack_queen(data: bytes, folder: Path) -> None:
    """Unpacks the voices, whose names begin with a digit, of Flight of the Amazon Queen's file in ScummVM's format.

    An entry of the file's table has 21 bytes: a name of 12, one byte, offset and size of 4 each.
    """
    folder.mkdir()
    entries = [data[start : start + 21] for start in range(15, 15 + 21 * int.from_bytes(data[13:15], "big"), 21)]
    sounds = {entry[:12].split(b"\0")[0].decode("latin-1"): entry for entry in entries}
    for name in sorted((name for name in sounds if name.endswith(".SB")), key=md5)[:700]:
        start, size = (int.from_bytes(sounds[name][at : at + 4], "big") for at in (13, 17))
        if name[0].isdigit():
            (folder / f"{name}.mp3").write_bytes(data[start : start + size])


def licences(copyright_file: Path) -> str:
    """The first licences that a machine-readable copyright file names."""
    found = re.findall(r"^License:[ \t]*(\S.*)", copyright_file.read_text(errors="replace"), re.M)
    return " / ".join(list(dict.fromkeys(name.strip() for name in found))[:6])


def gather(choices: Sequence[Choice], destination: Path) -> list[list[str]]:
    """Downloads one package and writes the chosen sounds. Returns the manifest's lines."""
    rows, package = [], choices[0].package
    with tempfile.TemporaryDirectory(prefix="nontarget-") as folder:
        root = Path(folder)
        version = unpack(package, root)
        for choice in choices:
            licence = choice.licence or licences(root / package / "usr/share/doc" / package / "copyright")
            cut = choice.tracks if choice.kind == "music" else choice.joined
            for name, sound in cut(choice.paths(root)):
                safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:80]
                path = Path(choice.set, choice.kind, f"{package}__{safe}.ogg")
                encode(sound, destination / path)
                where = [path.as_posix(), choice.set, choice.kind, package, version]
                rows.append([*where, f"{seconds(sound):.1f}", licence])
    return rows


def read_choices(wanted: str) -> dict[str, list[Choice]]:
    """The lines of nontarget.csv, by package."""
    packages: dict[str, list[Choice]] = {}
    with Path(__file__).with_suffix(".csv").open(newline="") as file:
        for set_, kind, package, most, *rest in list(csv.reader(file))[1:]:
            choice = Choice(set_, kind, package, float(most or "inf"), *rest)
            if wanted in ("all", choice.set):
                packages.setdefault(choice.package, []).append(choice)
    return packages


def gather_all(destination: Path, wanted: str) -> None:
    for program, where in (("apt-get", "Debian or Ubuntu"), ("dpkg-deb", "Debian or Ubuntu"), ("ffmpeg", "FFmpeg")):
        if not shutil.which(program):
            raise UserError(f"{program} is not there: this needs {where}")
    manifest = destination / "manifest.csv"
    try:
        destination.mkdir(parents=True, exist_ok=True)
        with manifest.open("a+", newline="") as file:
            if not file.tell():
                file.write(COLUMNS + "\n")
            file.seek(0)
            rows = list(csv.reader(file))
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
    if rows[:1] != [COLUMNS.split(",")]:
        raise UserError(f"{manifest} is none of this script's: name another folder")
    done = {row[3] for row in rows}
    packages, absent = read_choices(wanted), []
    for number, (package, choices) in enumerate(packages.items(), 1):
        if package in done:
            continue
        try:
            rows = gather(choices, destination)
        except AbsentError:
            absent.append(package)
            continue
        with manifest.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        print(f"{number}/{len(packages)} {package}: {sum(float(row[5]) for row in rows) / 60:.1f} min", flush=True)
    if len(absent) == len(packages):
        raise UserError("apt-get knows none of the packages: `sudo apt-get update`")
    if absent:
        raise RuntimeError(f"not in this release of Debian, and so left out: {', '.join(absent)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("destination", metavar="DEST", type=Path)
    parser.add_argument("--set", choices=("test", "train", "all"), default="all")
    arguments = parser.parse_args()
    try:
        gather_all(arguments.destination, arguments.set)
        return 0
    except UserError as error:
        complaint, code = str(error), 2
    except (RuntimeError, OSError, zipfile.BadZipFile) as error:
        complaint, code = str(error), 1
    except KeyboardInterrupt:
        complaint, code = "interrupted; the same command goes on", 130
    print(f"nontarget: {complaint}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
