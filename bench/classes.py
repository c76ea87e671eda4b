"""Thresholds of AudioSet's classes by sounds that are none of them, and how often the sounds themselves reach these.

    python bench/classes.py hear   home/ ESC-50/audio nontarget/ --cache cache/ --model MODEL   # once
    python bench/classes.py choose home/ ESC-50/audio nontarget/ --cache cache/ --out tagger/checkpoints/classes-X.csv
    python bench/classes.py report home/ ESC-50/audio nontarget/ --cache cache/ --table tagger/checkpoints/classes-X.csv

MODEL has a second opinion (`tagger models opinion`), the network X; `home/` and `nontarget/` are docs/trust.md's.
Thresholds are chosen by nontarget/train and the everyday recordings of the half `choose` of home/; reported on
nontarget/test, and on those of the half `report`. Recordings that may hold a class, by GROUPS and MAY, are left out.

Two windows in a row, 1 s apart, must reach the threshold, as an event needs. Of each stretch of ten windows the highest
logit counts. The threshold is where the tail of these, an exponential fitted to the highest TAIL, has PER_HOUR an hour;
but no lower than the highest logit of all, no more than BEYOND above it, and no lower than FLOOR.
"""

import argparse
import csv
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from tagger.audio.decode import decode_blocks
from tagger.audio.window import SlidingWindows
from tagger.checkpoints.classes import PER_HOUR, read_thresholds
from tagger.checkpoints.info import read_info
from tagger.checkpoints.opinion import read_classes
from tagger.checkpoints.release import audioset_labels
from tagger.checkpoints.store import BUNDLED
from tagger.decide import Decider
from tagger.engine.runtime import open_model
from tagger.errors import TaggerError, UserError
from tagger.events import Scores
from tagger.files import replacing
from tagger.policy import policy
from train.evaluate import trust

WINDOW_S, HOP_S, BATCH = 5.0, 1.0, 16
STRETCH = 10
TAIL = 15
BEYOND = 1.0
FLOOR = -2.2
LEAST_HOURS = 0.25
"""A class for which less remains has no threshold: its own probability of one half."""
LABELS = read_info(BUNDLED / "esc50.safetensors").labels
"""ESC-50's labels, by the number of their class."""
NAMES = audioset_labels()
COLUMN = {name: column for column, name in enumerate(NAMES)}
Array = NDArray[np.float32]

GROUPS = {
    "human": ("Speech", "Children playing"),
    "voice": ("Singing", "Humming"),
    "animal": ("Animal", "Whale vocalization"),
    "music": ("Music", "Scary music"),
    "nature": ("Wind", "Crackle"),
    "vehicle": ("Vehicle", "Accelerating, revving, vroom"),
    "engine": ("Engine", "Accelerating, revving, vroom"),
    "domestic": ("Door", "Writing"),
    "door": ("Door", "Squeak"),
    "alarm": ("Alarm", "Steam whistle"),
    "mechanism": ("Mechanisms", "Drill"),
    "bang": ("Explosion", "Boom"),
    "material": ("Wood", "Stir"),
    "impact": ("Boiling", "Crunch"),
    "scene": ("Silence", "Field recording"),
    "weather": ("Thunderstorm", "Thunder"),
    "rain": ("Rain", "Rain on surface"),
    "fire": ("Fire", "Crackle"),
    "bird": ("Bird", "Chirp, tweet"),
    "bell": ("Bell", "Chime"),
}
"""The first and the last of some of AudioSet's classes, in the network's order."""
MAY = (
    ("nontarget/speech|nontarget/crowd", "human scene"),
    (
        "nontarget/music|nontarget/instrument",
        "music voice scene Speech; Male speech, man speaking; Female speech, woman speaking",
    ),
    ("nontarget/radio|nontarget/film", "human music scene"),
    ("nontarget/(bells|brass|drones|keys|percussion|strings|winds)", "music scene"),
    ("nontarget/effects", "human music scene alarm mechanism bang material impact vehicle weather rain fire"),
    ("nontarget/places", "human nature animal scene vehicle"),
    ("home/", "scene"),
    ("home/other_alarm", "alarm door bell impact music vehicle"),
    ("home/other_home", "nature mechanism material impact engine"),
    ("home/other_home/(?!k20)", "domestic"),
    ("home/other_home/k20", "Tap; Knock; Squeak"),
    ("home/other_speech", "human Animal; Domestic animals, pets"),
    ("home/other_music", "music human"),
    ("home/other_street", "human vehicle nature mechanism impact music bang bird Siren; Civil defense siren"),
    ("moodist__", "nature bird vehicle impact mechanism bang Cricket"),
    ("restaurant|cafe|crowded-bar", "domestic music human Fire alarm"),
    ("office|library", "door alarm Computer keyboard; Typing; Typewriter; Writing; Cash register"),
    ("carousel|construction", "music bang mechanism domestic"),
    ("tuning-radio", "human music"),
    ("singing-bowl|vinyl", "music"),
    ("lawn_mower|EngineLoop", "vehicle"),
)
"""Which classes a recording may hold, by its place: names of groups, then of classes, with `;` between."""

KITCHEN = (
    "Blender",
    "Dishes, pots, and pans; Sink (filling or washing); Water tap, faucet; Microwave oven",
    "Cupboard open or close; Door; Drawer open or close; Slam; Microwave oven",
    "Microwave oven",
    "Hair dryer; Microwave oven; Vacuum cleaner",
    "Frying (food)",
    "Frying (food); Dishes, pots, and pans; Cutlery, silverware",
    "Water tap, faucet; Sink (filling or washing); Bathtub (filling or washing)",
    "Frying (food); Sink (filling or washing)",
    "Blender; Electric shaver, electric razor; Microwave oven",
    "Cupboard open or close; Drawer open or close; Door; Slam; Sliding door",
    "Drawer open or close; Cupboard open or close; Cutlery, silverware; Door; Sliding door; Slam",
    "Dishes, pots, and pans; Sink (filling or washing); Water tap, faucet; Cutlery, silverware",
    "Shuffling cards; Writing",
    "Chopping (food); Cutlery, silverware; Dishes, pots, and pans",
    "Cutlery, silverware; Dishes, pots, and pans; Drawer open or close; Keys jangling; Coin (dropping)",
    "Dishes, pots, and pans; Cutlery, silverware",
    "Chopping (food); Scissors; Writing",
    "Dishes, pots, and pans; Cutlery, silverware",
    "Toothbrush",
)
"""Domestic classes that a recording of Kitchen20 may hold, by the number of its class, the last of its name."""
HOLDS = (
    *(
        (f"/{label}/", classes)
        for label, classes in (
            ("dog", "Dog"),
            ("rooster", "Crowing, cock-a-doodle-doo"),
            ("pig", "Pig; Oink"),
            ("cow", "Cattle, bovinae; Moo"),
            ("frog", "Frog"),
            ("cat", "Cat; Meow"),
            ("hen", "Chicken, rooster"),
            ("insects", "Insect"),
            ("sheep", "Sheep; Bleat"),
            ("crow", "Crow; Caw"),
            ("rain", "Rain"),
            ("sea_waves", "Waves, surf; Ocean"),
            ("crackling_fire", "Fire; Crackle"),
            ("crickets", "Cricket"),
            ("water_drops", "Drip"),
            ("wind", "Wind"),
            ("chirping_birds", "Bird; Bird vocalization, bird call, bird song"),
            ("pouring_water", "Pour; Liquid"),
            ("toilet_flush", "Toilet flush"),
            ("thunderstorm", "Thunderstorm; Thunder"),
            ("sneezing", "Sneeze"),
            ("crying_baby", "Baby cry, infant cry; Crying, sobbing"),
            ("clapping", "Clapping"),
            ("breathing", "Breathing"),
            ("coughing", "Cough"),
            ("footsteps", "Walk, footsteps"),
            ("laughing", "Laughter"),
            ("snoring", "Snoring"),
            ("brushing_teeth", "Toothbrush"),
            ("door_wood_knock", "Knock"),
            ("door_wood_creaks", "Creak"),
            ("keyboard_typing", "Computer keyboard; Typing"),
            ("vacuum_cleaner", "Vacuum cleaner"),
            ("clock_alarm", "Alarm clock; Alarm"),
            ("clock_tick", "Tick-tock; Tick; Clock"),
            ("helicopter", "Helicopter"),
            ("glass_breaking", "Shatter; Breaking; Glass"),
            ("chainsaw", "Chainsaw"),
            ("siren", "Siren"),
            ("car_horn", "Vehicle horn, car horn, honking"),
            ("engine", "Engine"),
            ("train", "Train; Rail transport"),
            ("church_bells", "Church bell; Bell"),
            ("airplane", "Aircraft; Fixed-wing aircraft, airplane"),
            ("fireworks", "Fireworks"),
            ("hand_saw", "Sawing"),
            ("other_speech", "Speech"),
            ("other_music", "Music"),
        )
    ),
    *(
        (f"k20.*-{number}$", classes)
        for number, classes in (
            (0, "Blender"),
            (3, "Microwave oven"),
            (6, "Frying (food)"),
            (7, "Water tap, faucet"),
            (8, "Boiling"),
            (10, "Cupboard open or close"),
            (11, "Drawer open or close"),
            (12, "Dishes, pots, and pans"),
            (14, "Chopping (food)"),
            (15, "Cutlery, silverware"),
            (18, "Dishes, pots, and pans"),
        )
    ),
    *(
        (f"/other_.*{part}", name)
        for part, name in (
            ("doorbell", "Doorbell"),
            ("smoke_?alarm", "Smoke detector, smoke alarm"),
            ("car_alarm", "Car alarm"),
            ("phone_ring", "Telephone bell ringing"),
            ("bicycle_bell", "Bicycle bell"),
            ("rear_beeper", "Reversing beeps"),
            ("tornado_siren", "Civil defense siren"),
            ("faucet", "Water tap, faucet"),
            ("typewriter", "Typewriter"),
            ("drill", "Drill"),
            ("lawn_mower", "Lawn mower"),
            ("zipper", "Zipper (clothing)"),
            ("blender", "Blender"),
            ("door_(open|close)", "Door"),
            ("scissors|/other_.*shears", "Scissors"),
            ("waterfall", "Waterfall"),
            ("jackhammer|us8k__.*-7-", "Jackhammer"),
            ("camera", "Camera"),
            ("__river", "Stream"),
            ("us8k__[0-9]*-2-", "Children playing"),
            ("us8k__[0-9]*-4-", "Drill"),
        )
    ),
)
"""Which classes a recording surely holds, by its place `set/label/name`."""


@dataclass(frozen=True, eq=False)
class Heard:
    """What the network makes of a recording."""

    place: str
    """`set/folder/name`, without the suffix."""
    logits: Array
    """[windows, 527]."""
    may: NDArray[np.bool_]
    """[527]: classes that it may hold."""
    half: str

    @property
    def hours(self) -> float:
        return ((len(self.logits) - 1) * HOP_S + WINDOW_S) / 3600

    @property
    def confirmed(self) -> Array:
        """[windows], the lower logit of each window and the next one; of a lone window, its own."""
        return np.minimum(self.logits[:-1], self.logits[1:]) if len(self.logits) > 1 else self.logits

    @property
    def highest(self) -> Array:
        """[stretches, 527]."""
        logits = self.confirmed
        return np.stack([logits[at : at + STRETCH].max(0) for at in range(0, len(logits), STRETCH)])


def places(options: argparse.Namespace) -> Iterator[tuple[str, Path, frozenset[str], str]]:
    """Place, file, labels that it may hold, and half of each recording."""
    for each in trust.read_set(options.home):
        may = each.may if each.is_everyday else each.may | {each.label}
        yield f"home/{each.label}/{each.path.stem}", each.path, may, each.half
    for path in sorted(options.esc50.iterdir()):
        label = LABELS[int(path.stem.rpartition("-")[2])]
        yield f"esc50/{label}/{path.stem}", path, frozenset({label}), ""
    for part in ("train", "test"):
        for path in sorted((options.nontarget / part).glob("*/*.ogg")):
            yield f"nontarget/{path.parent.name}/{part}/{path.stem}", path, frozenset(), part


def hear(options: argparse.Namespace) -> None:
    """Writes the logits of each recording that the cache lacks."""
    classifier = open_model(options.model)
    rate_hz = classifier.info.mel.sample_rate_hz
    options.cache.mkdir(parents=True, exist_ok=True)
    for place, path, _, _ in places(options):
        out = cached(options.cache, place)
        if out.is_file():
            continue
        rows: list[Array] = []
        cut = SlidingWindows.of_seconds(WINDOW_S, HOP_S, rate_hz).cut(decode_blocks(path, rate_hz))
        windows = [window.samples for window in cut]
        for at in range(0, len(windows), BATCH):
            opinion = classifier.outputs(np.stack(windows[at : at + BATCH])).opinion
            if opinion is None:
                raise UserError(f"{options.model} has no second opinion: tagger models opinion")
            rows.append(opinion)
        with replacing(out) as partial, partial.open("wb") as file:
            np.save(file, np.concatenate(rows))


def cached(cache: Path, place: str) -> Path:
    return cache / f"{place.replace('/', '__')}.npy"


def read(options: argparse.Namespace) -> list[Heard]:
    """What was heard. Recordings that the cache lacks are left out, and counted on standard error."""
    means, found, lacking = read_classes(), [], 0
    for place, _, labels, half in places(options):
        path = cached(options.cache, place)
        if not path.is_file():
            lacking += 1
            continue
        may = np.zeros(len(NAMES), bool)
        for label in labels:
            may[[COLUMN[name] for name in means.get(label, ())]] = True
        for pattern, classes in (*MAY, *((f"k20.*-{number}$", each) for number, each in enumerate(KITCHEN))):
            if re.search(pattern, place):
                may[columns(classes)] = True
        found.append(Heard(place, np.load(path), may, half))
    if lacking:
        click.echo(f"{lacking} recordings were not heard", err=True)
    return found


def columns(text: str) -> list[int]:
    """Numbers of the classes of groups, and of classes that are named with `; ` between.

    >>> columns("rain Wind; Toilet flush") == [289, 290, 291, 283, 374]
    True
    """
    words = text.split(" ")
    count = next((number for number, word in enumerate(words) if word not in GROUPS), len(words))
    groups = [range(COLUMN[GROUPS[word][0]], COLUMN[GROUPS[word][1]] + 1) for word in words[:count]]
    names = " ".join(words[count:])
    return [*(number for group in groups for number in group), *(COLUMN[name] for name in names.split("; ") if names)]


def thresholds(heard: Sequence[Heard]) -> Array:
    """[527], logits."""
    found = np.zeros(len(NAMES), np.float32)
    highest, hours = [each.highest for each in heard], np.array([each.hours for each in heard])
    may = np.stack([each.may for each in heard])
    for column in range(len(NAMES)):
        counts = ~may[:, column]
        if hours[counts].sum() < LEAST_HOURS:
            continue
        logits = np.sort(np.concatenate([highest[i][:, column] for i in np.flatnonzero(counts)]))[::-1]
        tail = min(TAIL, len(logits) - 1)
        slope = float((logits[:tail] - logits[tail]).mean())
        least = logits[tail] + slope * max(0.0, np.log(tail / (hours[counts].sum() * PER_HOUR)))
        found[column] = max(min(max(least, logits[0]), logits[0] + BEYOND), FLOOR)
    return found.round(2)


def recalls(heard: Sequence[Heard], logits: Array) -> dict[str, tuple[float, int]]:
    """By class, the share of recordings of it that are announced, and their number."""
    reached: dict[str, list[bool]] = {}
    for each in heard:
        names = {name for pattern, names in HOLDS if re.search(pattern, each.place) for name in names.split("; ")}
        for name in names:
            reached.setdefault(name, []).append(bool(each.confirmed[:, COLUMN[name]].max() >= logits[COLUMN[name]]))
    return {name: (float(np.mean(each)), len(each)) for name, each in reached.items()}


def events_of(heard: Sequence[Heard], logits: Array) -> tuple[NDArray[np.int64], Array]:
    """Events as the daemon decides them, and hours, both [527]."""
    rules = policy(NAMES, [0.5] * len(NAMES), WINDOW_S, HOP_S)
    counts, hours = np.zeros(len(NAMES), np.int64), np.zeros(len(NAMES), np.float32)
    no_axis = np.full((len(NAMES), 1), np.nan, np.float32)
    for each in heard:
        hours += np.where(each.may, 0, each.hours)
        decider = Decider(rules)
        for number, row in enumerate(each.logits):
            values = np.where(each.may, 0, 1 / (1 + np.exp(logits - row))).astype(np.float32)
            start = number * HOP_S
            for event in decider.update(Scores(values, start, start + WINDOW_S, start, no_axis, WINDOW_S)):
                counts[COLUMN[event.label]] += event.type == "begin"
        for event in decider.close():
            counts[COLUMN[event.label]] += event.type == "begin"
    return counts, hours


def is_for_choosing(each: Heard) -> bool:
    return each.half == "train" or (each.place.startswith("home/other_") and each.half == "choose")


def choose(options: argparse.Namespace) -> None:
    heard = read(options)
    logits = thresholds([each for each in heard if is_for_choosing(each)])
    known = recalls(heard, logits)
    with replacing(options.out) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["class", "logit", "recall", "recordings"])
        for name, logit in zip(NAMES, logits, strict=True):
            recall, recordings = known.get(name, (None, 0))
            rows.writerow([name, f"{logit:g}", "" if recall is None else f"{recall:.2f}", recordings])
    click.echo(f"{options.out}: {(logits == np.float32(FLOOR)).sum()} classes at the floor of {FLOOR:g}")


def report(options: argparse.Namespace) -> None:
    table = read_thresholds(options.table)
    logits = np.array([table[name].logit for name in NAMES], np.float32)
    heard = read(options)
    sets = {
        "nontarget/test": [each for each in heard if each.half == "test"],
        "everyday, half report": [
            each for each in heard if each.place.startswith("home/other_") and each.half == "report"
        ],
    }
    for name, chosen in sets.items():
        if not chosen:
            continue
        counts, hours = events_of(chosen, logits)
        counted = (hours >= LEAST_HOURS / 2) & (logits != 0)
        rates = counts[counted] / hours[counted]
        click.echo(f"{name}: {sum(each.hours for each in chosen):.2f} h, {counted.sum()} classes")
        click.echo(
            f"  at most {PER_HOUR:g} an hour: {(rates <= PER_HOUR).mean():.1%}; mean of all: {rates.mean():.3f} an hour"
        )
        worst = sorted(np.flatnonzero(counted), key=lambda column: -counts[column] / hours[column])[:12]
        click.echo("  most: " + ", ".join(f"{NAMES[i]} {counts[i]} in {hours[i]:.1f} h" for i in worst if counts[i]))
        for each in SHOWN:
            click.echo(f"  {each}: {counts[COLUMN[each]]} in {hours[COLUMN[each]]:.1f} h")
    known = [(each.recall, each.recordings) for each in table.values() if each.recall is not None]
    many = [recall for recall, recordings in known if recordings >= 10]
    click.echo(
        f"recall: mean {np.mean(many):.3f} of {len(many)} classes with 10 recordings or more; {len(known)} with any"
    )


SHOWN = ("Doorbell", "Smoke detector, smoke alarm", "Water tap, faucet", "Gunshot, gunfire", "Speech")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("hear", "choose", "report"))
    for name in ("home", "esc50", "nontarget"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--model", default="esc50")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("classes.csv"))
    parser.add_argument("--table", type=Path, default=Path("classes.csv"))
    options = parser.parse_args()
    try:
        {"hear": hear, "choose": choose, "report": report}[options.what](options)
    except TaggerError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
