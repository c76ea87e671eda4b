"""Gathers sounds that are none of ESC-50's fifty from Debian's packages: speech, music, instruments, effects, crowds.

    python scripts/nontarget.py nontarget/ --set test

Needs Debian or Ubuntu (`apt-get download`: no root, nothing is installed), FFmpeg, FluidSynth, and no Python packages.
It downloads one package at a time, unpacks it into a temporary folder, cuts its sounds and deletes it. It writes 16 kHz
mono Ogg Vorbis, DEST/SET/KIND/PACKAGE__NAME.ogg, and DEST/manifest.csv, which names the origin of each file. Packages
in the manifest are skipped, so after Ctrl-C the same command continues. `test` downloads 1.6 GB, a package at a time,
and leaves about 300 MB in DEST; `train` downloads 2.2 GB.

nontarget.csv, beside this file, lists the packages. In each line `only` and `except` are regular expressions of paths,
`seconds` is the approximate length taken (empty: all), and `licence` names a licence that the package does not state in
a readable form. Music stays in its tracks. MIDI files are rendered with other instruments (nontarget_midi.py) and a
sound font of the set's own. Clips of all other kinds are joined into longer files. At the end speech is mixed with
music (radio), with music and effects (film), and with itself (crowd).
"""

import argparse
import csv
import math
import re
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nontarget_midi as midi
from nontarget_sound import (
    LONGEST_S,
    MIX_S,
    RATE_HZ,
    decode,
    decoded,
    encode,
    is_audible,
    md5,
    mixed,
    render,
    run,
    seconds,
)

PAUSE_S = 0.5
"""Silence after each joined clip."""
JOINED_S = {"speech": 300, "instrument": 120, "effects": 120, "places": 120}
"""A file of joined clips ends with the clip that makes it this long."""
CLIP_S = {"speech": 60, "instrument": 10, "effects": 12, "places": 60}
"""Longest clip; a longer one is cut. A longer effect is left out: it is a melody or the sound of a place."""
FONTS = {"test": ("timgm6mb-soundfont",), "train": ("csound-soundfont", "fluidr3mono-gm-soundfont")}
"""Packages of the sound fonts that MIDI files are rendered with, by set; each kind takes the next one."""
MIXES = {
    "test": {"radio": 5400, "film": 5400, "crowd": 1800},
    "train": {"radio": 900, "film": 900, "crowd": 600},
}
"""Kinds that are mixed of others, and their length."""
MIXED_OF = {"speech": ("speech",), "music": ("music",), "effects": ("effects", "places")}
"""What the parts of a mixture are taken from."""
VOICES = 14
"""Voices of a crowd."""
MANIFEST = "manifest.csv"
COLUMNS = "path,set,kind,package,version,seconds,licence"
TRACK_S = 45, LONGEST_S
"""Shortest and longest part that is taken of a track."""
MUSIC_BYTES = 250_000
"""Smallest file that counts as music, in packages whose line has no `only`."""
LEAST_BYTES, LEAST_S = 800, 0.15
"""Smallest file and shortest clip; anything below is left out."""

MIDI = re.compile(r"\.midi?$", re.I)
AUDIO = re.compile(r"\.(ogg|oga|wav|mp3|flac|opus|au|spx|g722)$", re.I)
NO_EFFECT = re.compile("ringtone|announcer|tutorial|campaign|taunt|countdown|player|ambien|music|voice|speech", re.I)
"""Paths of files that are no sound effects."""
IS_LABEL = re.compile(
    # Anywhere in a name
    "dog|puppy|bark|rooster|piglet|frog|toad|croak|kitten|meow|chicken|insect|bumblebee|mosquito|cricket|cicada|lamb|"
    "sheep|bird|chirp|tweet|seagull|parrot|raven|rain|drizzle|ocean|crackl|bonfire|torch|water|drip|droplet|pour|"
    "fountain|creek|toilet|flush|thunder|lightning|storm|wind|baby|weep|sneez|applau|clap|cheer|breath|gasp|snor|cough|"
    "step|walk|march|laugh|giggl|chuckl|brush|drink|gulp|slurp|knock|mouse|keyboard|type?writer|typing|click|button|"
    "creak|squeak|door|washing|vacuum|alarm|clock|glass|shatter|helicopter|chopper|rotor|chainsaw|sawing|sawmill|siren|"
    "horn|engine|motor|vehicle|truck|train|railway|locomotive|subway|bell|airplane|aircraft|propeller|firework|cracker|"
    # As a word of its own
    "(?<![a-z])(cats?|cows?|moo|pigs?|oink|hens?|bees?|fly|flies|bugs?|crows?|caw|sea|surf|waves?|fire|drop|sip|can|car|"
    "kart|tank|saw|run|cry|crying|sob|pant|tick|tock|plane|jet)(?![a-z])",
    re.I,
)
"""File names of sounds that are one of ESC-50's. What is only like one stays: a near miss must be heard as nothing."""


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
        wanted = MIDI if self.kind in midi.PROGRAMS else AUDIO
        inside = {path: path.relative_to(root).as_posix() for path in root.rglob("*") if wanted.search(path.name)}
        chosen = sorted((path for path in inside if self.means(path, inside[path])), key=inside.__getitem__)
        if self.seconds < math.inf:
            chosen.sort(key=lambda path: md5(inside[path]))
        return chosen

    def means(self, path: Path, inside: str) -> bool:
        if path.is_symlink() or path.stat().st_size < LEAST_BYTES or not re.search(self.only, inside):
            return False
        if self.without and re.search(self.without, inside, re.I):
            return False
        if self.kind in ("effects", "places"):
            is_effect = self.kind == "places" or not NO_EFFECT.search(inside)
            return is_effect and not IS_LABEL.search(path.stem)
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

    def rendered(self, paths: Sequence[Path], font: Path) -> Iterator[tuple[str, bytes]]:
        """Names and samples of the files to write: MIDI files played by the instruments of this kind."""
        paths = sorted(paths, key=lambda path: md5(f"{self.kind} {path.name}"))
        taken_s = 0.0
        for number, path in enumerate(paths):
            try:
                piece = midi.read(path.read_bytes())
            except ValueError:
                continue
            sound = render(piece.played_by(self.kind, number), font)
            if seconds(sound) >= 1 and is_audible(sound):
                taken_s += seconds(sound)
                yield f"{self.kind}_{path.stem}", sound
            if taken_s >= self.seconds:
                break

    def joined(self, paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
        """Names and samples of the files to write: many paths in one file."""
        taken_s, number, joined, seen = 0.0, 0, b"", set[bytes]()
        for sound in decoded(paths, CLIP_S[self.kind] + (self.kind == "effects")):
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
    rows, package, fonts = [], choices[0].package, dict[str, tuple[Path, str]]()
    with tempfile.TemporaryDirectory(prefix="nontarget-") as folder:
        root = Path(folder, "package")
        root.mkdir()
        version = unpack(package, root)
        for number, choice in enumerate(choices):
            licence = choice.licence or licences(root / package / "usr/share/doc" / package / "copyright")
            font, origin = "", version
            if choice.kind in midi.PROGRAMS:
                font = FONTS[choice.set][number % len(FONTS[choice.set])]
                if font not in fonts:
                    fonts[font] = unpack_font(font, Path(folder))
                origin = f"{version} with {font} {fonts[font][1]}"
                parts = choice.rendered(choice.paths(root), fonts[font][0])
            else:
                parts = (choice.tracks if choice.kind == "music" else choice.joined)(choice.paths(root))
            for name, sound in parts:
                safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:80]
                path = Path(choice.set, choice.kind, f"{package}__{safe}.ogg")
                encode(sound, destination / path)
                where = [path.as_posix(), choice.set, choice.kind, package, origin]
                rows.append([*where, f"{seconds(sound):.1f}", licence])
    return rows


def unpack_font(package: str, folder: Path) -> tuple[Path, str]:
    """Downloads a sound font. Returns its path and the package's version."""
    root = folder / package
    root.mkdir()
    version = unpack(package, root)
    found = [path for path in sorted(root.rglob("*.sf[23]")) if not path.is_symlink()]
    if not found:
        raise RuntimeError(f"{package}: holds no sound font")
    return found[0], version


def mix(kind: str, rows: Sequence[Sequence[str]], destination: Path) -> list[list[str]]:
    """Writes the files of a kind that is mixed of others. Returns the manifest's lines."""
    set_ = rows[0][1]
    found = {name: [row for row in rows if row[2] in kinds] for name, kinds in MIXED_OF.items()}
    found = {name: sorted(some, key=lambda row: md5(f"{kind} {row[0]}")) for name, some in found.items()}
    parts = {"radio": ["music", "speech"], "film": ["music", "effects", "speech"], "crowd": ["speech"] * VOICES}[kind]
    if missing := sorted({part for part in parts if not found[part]}):
        raise RuntimeError(f"{set_}/{kind}: no {missing[0]} to mix it of")
    made = []
    for number in range(MIXES[set_][kind] // MIX_S):
        chosen = [found[part][(number * parts.count(part) + at) % len(found[part])] for at, part in enumerate(parts)]
        sound = mixed(kind, [destination / row[0] for row in chosen], number)
        path = Path(set_, kind, f"{kind}__{number:02d}.ogg")
        encode(sound, destination / path)
        packages, licence = (" + ".join(dict.fromkeys(row[at] for row in chosen)) for at in (3, 6))
        made.append([path.as_posix(), set_, kind, packages, "", f"{seconds(sound):.1f}", licence])
    return made


def read_choices(wanted: str) -> dict[str, list[Choice]]:
    """The lines of nontarget.csv, by package."""
    packages: dict[str, list[Choice]] = {}
    with Path(__file__).with_suffix(".csv").open(newline="") as file:
        for set_, kind, package, most, *rest in list(csv.reader(file))[1:]:
            choice = Choice(set_, kind, package, float(most or "inf"), *rest)
            if wanted in ("all", choice.set):
                packages.setdefault(choice.package, []).append(choice)
    return packages


def opened(destination: Path) -> list[list[str]]:
    """The manifest's lines; a new manifest if there is none.

    Raises:
        UserError: it is none of this script's, or cannot be written.
    """
    manifest = destination / MANIFEST
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
    return rows[1:]


def gather_all(destination: Path, wanted: str) -> None:
    needed = {"apt-get": "Debian or Ubuntu", "dpkg-deb": "Debian or Ubuntu", "ffmpeg": "FFmpeg"}
    needed["fluidsynth"] = "FluidSynth: `sudo apt-get install fluidsynth`"
    for program, where in needed.items():
        if not shutil.which(program):
            raise UserError(f"{program} is not there: this needs {where}")
    rows = opened(destination)
    packages, absent = read_choices(wanted), list[str]()
    sets = [each for each in MIXES if wanted in ("all", each)]
    mixes = [(set_, kind) for set_ in sets for kind in MIXES[set_]]
    done = {row[3] for row in rows} | {(row[1], row[2]) for row in rows}
    left = [each for each in [*packages, *mixes] if each not in done]
    started = time.monotonic()
    for number, each in enumerate(left, 1):
        try:
            if isinstance(each, str):
                name, new = each, gather(packages[each], destination)
            else:
                name = "/".join(each)
                new = mix(each[1], [row for row in rows if row[1] == each[0]], destination)
        except AbsentError as error:
            absent.append(str(error))
            continue
        rows += new
        with (destination / MANIFEST).open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(new)
        minutes = sum(float(row[5]) for row in new) / 60
        to_do = (time.monotonic() - started) / number * (len(left) - number) / 60
        print(f"{number}/{len(left)} {name}: {minutes:.1f} min of sound; about {to_do:.0f} min left", flush=True)
        if not new:
            print(f"  {name}: none of its files is taken; in this release of Debian they may be named otherwise")
    if packages and len(absent) == len(packages):
        raise UserError("apt-get knows none of the packages: `sudo apt-get update`")
    hours = {set_: sum(float(row[5]) for row in rows if row[1] == set_) / 3600 for set_ in sets}
    print(", ".join(f"{set_}: {each:.2f} h" for set_, each in hours.items()))
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
