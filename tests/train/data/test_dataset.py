import hashlib
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tagger.errors import UserError
from train.data import esc50
from train.data.dataset import FOLDS, Clip, Dataset, combined, inner_split, leaks, trained_on
from train.data.layouts import read_any


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def clip(number: int, label: int | None = 0, fold: int = 1, source: str | None = None) -> Clip:
    return Clip(Path(f"{number}.wav"), label, fold, source or f"source {number}", digest(str(number)))


def dataset(*clips: Clip, labels: tuple[str, ...] = ("dog", "cat"), name: str = "one") -> Dataset:
    return Dataset(name, labels, clips, (f"licence of {name}",))


@pytest.mark.parametrize(
    "change",
    [{"sha256": digest("other")}, {"fold": 2}, {"label": 1}, {"label": None}, {"start_seconds": 0.0}],
)
def test_the_fingerprint_is_that_of_what_is_learned(change):
    first = dataset(clip(1), clip(2))
    assert dataset(clip(1), replace(clip(2), **change)).fingerprint != first.fingerprint
    assert dataset(clip(2), clip(1)).fingerprint != first.fingerprint, "features are kept in the clips' order"
    assert dataset(clip(1), clip(2), labels=("wolf", "cat")).fingerprint != first.fingerprint


def test_the_fingerprint_is_not_that_of_a_place():
    first = dataset(clip(1), clip(2))
    moved = replace(clip(2), path=Path("elsewhere.flac"), source="another")
    assert dataset(clip(1), moved).fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("place", "title"),
    [
        ({}, "1.wav"),
        ({"root": Path("own")}, "dog/1.wav"),
        ({"root": Path("own/dog"), "start_seconds": 0.0}, "1.wav"),
        ({"root": Path("own"), "start_seconds": 7.5}, "dog/1.wav@7.5"),
        ({"root": Path("elsewhere")}, "1.wav"),
    ],
)
def test_a_clip_is_called_by_its_place_below_the_root(place, title):
    assert replace(clip(1), path=Path("own/dog/1.wav"), **place).title == title


def test_a_clip_whose_name_is_not_unicode_can_be_printed():
    named = replace(clip(1), path=Path("own") / os.fsdecode(b"\xff.wav"))
    assert named.title == "\\udcff.wav"


def test_combined_labels_are_merged_by_name():
    one = dataset(clip(1, 0), clip(2, 1), clip(3, None))
    other = dataset(clip(4, 0), clip(5, 1), clip(6, 2), labels=("bell", "cat", "ape"), name="two")
    both = combined([one, other])
    assert both.labels == ("dog", "cat", "bell", "ape")
    assert [each.label for each in both.clips] == [0, 1, None, 2, 1, 3]
    assert (both.name, both.licences) == ("one + two", ("licence of one", "licence of two"))
    assert both.clips[:3] == one.clips
    assert combined([one]) == one


def test_what_an_earlier_data_set_has_takes_its_fold_there():
    one = dataset(clip(1, fold=1), clip(2, fold=2, source="known"))
    copy = clip(1, fold=3, source="mine")
    other = dataset(clip(9, fold=3, source="mine"), copy, clip(8, fold=4, source="known"), clip(7, fold=5), name="two")
    both = combined([one, other])
    assert [(each.fold, each.source) for each in both.clips[2:]] == [
        *[(1, "source 1")] * 2,
        (2, "known"),
        (5, "source 7"),
    ]


recordings = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, None]), st.integers(1, 4)), min_size=1, max_size=40
)  # label and clips of each


@given(recordings, st.floats(0.01, 0.99), st.integers(0, 1000), st.randoms(use_true_random=False))
def test_an_inner_split_is_by_recording_and_by_label(made, share, seed, random):
    clips = [
        clip(100 * number + take, label, source=f"recording {number}")
        for number, (label, takes) in enumerate(made)
        for take in range(takes)
    ]
    random.shuffle(clips)
    data = dataset(*clips, labels=("a", "b", "c"))
    rows = np.array(random.sample(range(len(clips)), random.randint(1, len(clips))))
    inner, rest = inner_split(data, rows, share, seed)
    assert sorted([*inner, *rest]) == sorted(rows)
    assert inner.tolist() == sorted(inner)
    assert rest.tolist() == sorted(rest)
    sources = [{clips[row].source for row in part} for part in (inner, rest)]
    assert not sources[0] & sources[1]
    for label in (0, 1, 2, None):
        mine = Counter(clips[row].source for row in rows if clips[row].label == label)
        inside = sum(mine[source] for source in sources[0])
        if len(mine) > 1:
            assert 0 < inside < mine.total()
            # No further from the share than half of the largest recording, or the one that must be on each side.
            assert abs(inside - share * mine.total()) <= max(mine.values())
        else:
            assert not inside
    again = inner_split(data, rows[::-1], share, seed)
    assert [part.tolist() for part in again] == [inner.tolist(), rest.tolist()]


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.integers(0, 8)), min_size=1), st.floats(0.01, 0.99))
def test_recordings_of_several_labels_stay_whole_too(made, share):
    data = dataset(
        *(clip(n, label, source=str(source)) for n, (label, source) in enumerate(made)), labels=("a", "b", "c")
    )
    inner, rest = inner_split(data, np.arange(len(made)), share, 0)
    assert sorted([*inner, *rest]) == list(range(len(made)))
    assert not {made[row][1] for row in inner} & {made[row][1] for row in rest}


def test_inner_splits_differ_by_seed_and_stay_when_others_are_added():
    data = dataset(*(clip(number, number % 2) for number in range(60)))
    more = replace(data, clips=(*data.clips, *(clip(number, None) for number in range(100, 120))))
    first = inner_split(data, np.arange(60), 0.2, 0)
    assert len(first[0]) == 12
    assert set(first[0]) != set(inner_split(data, np.arange(60), 0.2, 1)[0])
    assert set(inner_split(more, np.arange(80), 0.2, 0)[0]) - set(range(60, 80)) == set(first[0])


def test_leaks_by_content_or_by_recording():
    trained = trained_on(dataset(clip(1), clip(2), clip(3, source="source 2")), np.array([0, 1]))
    assert trained == sorted(trained)
    assert len(trained) == 4
    assert all(len(each) == 10 for each in trained)
    same_file = replace(clip(1), source="renamed")
    same_recording = clip(4, source="source 2")
    seen = dataset(clip(5), same_file, clip(3), same_recording, clip(1))
    assert leaks(seen, np.arange(5), trained).tolist() == [1, 3, 4]
    assert leaks(seen, np.array([4, 2]), trained).tolist() == [4]
    assert leaks(seen, np.arange(5), []).tolist() == []


def write(path: Path, seed: int, seconds: float = 0.05) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * 8_000))
    soundfile.write(path, noise, 8_000)
    return path


@pytest.fixture
def tiny_esc50(tmp_path):
    root = tmp_path / "ESC-50"
    lines = ["filename,fold,target,category,esc10"]
    for fold in FOLDS:
        for target, category in enumerate(("dog", "rain")):
            path = write(root / "audio" / f"{fold}-{10 * fold + target}-A-{target}.wav", 10 * fold + target)
            lines.append(f"{path.name},{fold},{target},{category},{target == 1}")
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text("\n".join(lines))
    return root


@pytest.fixture
def own_folder(tmp_path):
    for seed, label in enumerate(["kettle"] * 5 + ["doorbell"] * 5 + ["background"] * 2):
        write(tmp_path / "own" / label / f"{seed}.wav", 100 + seed)
    return tmp_path / "own"


def test_read_any_esc50(tiny_esc50, tmp_path):
    whole = esc50.read(tiny_esc50)
    assert read_any(tiny_esc50) == whole
    assert read_any(tiny_esc50, "esc10").labels == ("rain",)
    assert read_any(tiny_esc50 / "meta" / "esc50.csv").fingerprint == whole.fingerprint
    (tmp_path / "unzipped").mkdir()
    tiny_esc50.rename(tmp_path / "unzipped" / "ESC-50-master")
    assert read_any(tmp_path / "unzipped").fingerprint == whole.fingerprint


def test_read_any_own(own_folder, tmp_path):
    assert read_any(own_folder).labels == ("doorbell", "kettle")
    (tmp_path / "table.csv").write_text("filename,label\n" + "\n".join(f"own/kettle/{n}.wav,kettle" for n in range(5)))
    assert read_any(tmp_path / "table.csv").labels == ("kettle",)
    with pytest.raises(UserError, match="ESC-10"):
        read_any(own_folder, "esc10")


def test_read_any_says_what_own_sounds_lack(own_folder):
    said: list[str] = []
    (own_folder / "kettle" / "notes.txt").write_text("hello")
    (own_folder / "kettle" / "0.wav").unlink()
    read_any(own_folder, say=said.append)
    assert any("kettle/notes.txt" in line for line in said)
    assert any("fewer than 5" in line and "kettle" in line and "doorbell" not in line for line in said)


@pytest.mark.parametrize("what", ["missing", "empty", "audio", "documents", "sound", "archive", "flat"])
def test_nothing_to_read(tmp_path, what):
    path = tmp_path / "data"
    if what != "missing":
        path.mkdir()
    if what == "audio":
        write(path / "audio" / "1.wav", 0)
        (path / "labels.csv").write_text("filename,label\n1.wav,dog\n")
    if what == "documents":
        (path / "papers").mkdir()
        (path / "papers" / "1.pdf").write_text("")
    if what == "flat":
        write(path / "1.wav", 0)
    if what == "sound":
        path = write(path / "1.wav", 0)
    if what == "archive":
        path = path / "data.zip"
        path.write_bytes(b"PK\3\4 and no more")
    with pytest.raises(UserError) as caught:
        read_any(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert what == "archive" or "karolpiczak/ESC-50" in message
    assert what not in ("empty", "flat", "documents", "audio") or "meta/esc50.csv is missing" in message
    assert what != "audio" or f"name the CSV itself if you mean {path / 'labels.csv'}" in message


def test_esc50_and_own_together(tiny_esc50, own_folder):
    write(own_folder / "dog" / "mine.wav", 300)
    (own_folder / "dog" / "known.wav").write_bytes((tiny_esc50 / "audio" / "4-40-A-0.wav").read_bytes())
    both = combined([read_any(tiny_esc50), read_any(own_folder)])
    assert both.name == "ESC-50 + own"
    assert both.labels == ("dog", "rain", "doorbell", "kettle")
    assert both.licences == (esc50.LICENCE,)
    (known,) = (each for each in both.clips if each.path.name == "known.wav")
    assert (known.label, known.fold, known.source) == (0, 4, "esc50/40")
