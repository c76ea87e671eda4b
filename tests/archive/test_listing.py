"""Folders, patterns and manifests become a stream of recordings."""

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tagger.archive.listing import Listing
from tagger.archive.plan import shards
from tagger.archive.recording import Audio
from tagger.errors import UserError
from tagger.tag.inputs import recordings

FILES = ("b.wav", "a.flac", "notes.txt", ".hidden.wav", "sub/c.ogg", "sub/deep/d_20260131_235959.mp3", ".git/e.wav")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "heard" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    return tmp_path / "heard"


def listed(*sources: object, source: str | None = None) -> list[Audio]:
    return list(Listing([str(each) for each in sources], source).recordings())


def test_a_folder_stands_for_all_below_that_may_be_audio(folder: Path) -> None:
    listing = Listing([str(folder)])
    found = list(listing.recordings())
    assert [each.path for each in found] == [str(each.path) for each in recordings([folder]).recordings]
    assert [each.source for each in found] == ["heard", "heard", "sub", "sub"], (
        "the first folder below, or its own name"
    )
    assert [each.size for each in found] == [5] * 4
    assert [each.began for each in found] == [None] * 3 + [datetime(2026, 1, 31, 23, 59, 59).timestamp()]
    assert (listing.left_out, listing.errors) == (1, [])


@pytest.mark.parametrize("pattern", ["*.wav", "*", "**/*.[om]*", "**/*.[!o]*", "su?/*.ogg", "*/deep", "**", "*.aiff"])
def test_a_pattern_stands_for_what_it_stands_for_in_tagger_tag(pattern: str, folder: Path) -> None:
    listing = Listing([str(folder / pattern)])
    expected = recordings([folder / pattern])
    assert sorted(each.path for each in listing.recordings()) == sorted(str(each.path) for each in expected.recordings)
    assert [str(each) for each in listing.errors] == [str(each) for each in expected.errors]


@pytest.mark.parametrize("pattern", ["", "**/*.wav", "**", "*/*.wav", "disk/**/*.wav", "**/deep/**/*.wav"])
def test_links_to_folders_are_followed_by_tag_and_archive(pattern: str, folder: Path) -> None:
    """Recordings may lie on another disk. A link that leads back is not."""
    disk = folder.parent / "disk"
    (disk / "deep").mkdir(parents=True)
    (disk / "deep" / "f.wav").touch()
    (folder / "disk").symlink_to(disk)
    (disk / "back").symlink_to(folder)
    (folder / "sub" / "same").symlink_to(folder / "sub" / "deep")
    place = folder / pattern if pattern else folder
    found = [str(each.path) for each in recordings([place]).recordings]
    assert sorted(each.path for each in listed(place)) == sorted(found)
    assert (str(folder / "disk" / "deep" / "f.wav") in found) is (pattern != "*/*.wav")
    assert not [each for each in found if "same" in each]
    assert any("back" in each for each in found) is pattern.startswith("disk")  # only from there it leads out


def test_a_file_that_is_named_itself_is_taken_whatever_its_name(folder: Path) -> None:
    (found,) = listed(folder / ".hidden.wav", source="attic")
    assert (found.path, found.source) == (str(folder / ".hidden.wav"), "attic")


def test_a_manifest_in_csv_may_say_source_and_start(folder: Path) -> None:
    manifest = folder / "list.csv"
    manifest.write_text(
        "\ufeffPath;source;start\nb.wav;attic;2026-01-31T12:00:00Z\nsub/c.ogg;;\n\n/x/missing.wav;;1700000000\n"
    )
    found = listed(manifest)
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
    assert found == [
        Audio(str(folder / "b.wav"), "attic", noon, 5),
        Audio(str(folder / "sub" / "c.ogg"), "sub", None, 5),
        Audio("/x/missing.wav", "x", 1_700_000_000.0, 0),
    ]


@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_a_manifest_may_be_in_utf_16(suffix: str, folder: Path) -> None:
    manifest = folder / f"list.{suffix}"
    manifest.write_text({"csv": 'file;"source"\nb.wav;Küche\n', "txt": "b.wav\n"}[suffix], "utf-16")
    (found,) = listed(manifest)
    assert (found.path, found.source) == (str(folder / "b.wav"), {"csv": "Küche", "txt": "heard"}[suffix])


def test_a_manifest_as_text_has_a_path_or_url_in_each_line(folder: Path) -> None:
    manifest = folder / "notes.txt"
    manifest.write_text("# the best\nb.wav\n\ns3://bucket/attic/20260131_120000.flac\n")
    first, second = listed(manifest)
    assert first.path == str(folder / "b.wav")
    assert (second.path, second.source) == ("s3://bucket/attic/20260131_120000.flac", "attic")
    assert second.began == datetime(2026, 1, 31, 12).timestamp()


def test_a_manifest_in_parquet_has_times_with_types(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    table = {"file": ["b.wav", "a.flac"], "start_time": pyarrow.array([noon, None], pyarrow.timestamp("us", "UTC"))}
    parquet.write_table(pyarrow.table(table), folder / "list.parquet")
    assert [(each.path, each.began) for each in listed(folder / "list.parquet", source="x")] == [
        (str(folder / "b.wav"), noon.timestamp()),
        (str(folder / "a.flac"), None),
    ]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "name,start\nb.wav,\n", "has no column `file`"),
        ("a.csv", "file,start\nb.wav,yesterday\n", "line 2: 'yesterday' is no time"),
        ("a.csv", "file,start\n,12\n", "line 2: names no file"),
        ("a.csv", b"file\n\xff\n", "is no table in UTF-8"),
        ("a.parquet", "file\n", "is no Parquet"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_said_with_its_place(
    name: str, text: str | bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=name) as error:
        listed(tmp_path / name)
    assert words in str(error.value)


def test_a_link_that_leads_to_itself_is_missing(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(UserError, match="there is no such file or folder"):
        listed(tmp_path / "circle")


def test_what_is_missing_or_named_twice_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="there is no such file or folder"):
        listed(folder / "missing")
    beside = folder.with_name(f"{folder.name}-2")  # sorts between the folder and what is in it
    beside.mkdir()
    for inner in (folder / "sub", folder / "a.flac", folder):
        with pytest.raises(UserError, match=f"{inner}: is named already, by {folder};"):
            listed(inner, beside, folder)
    for inner in (folder / "missing", folder / "missing.wav"):
        with pytest.raises(UserError, match=f"{inner}: there is no such file or folder"):
            listed(inner, beside, folder)
    with pytest.raises(UserError, match="ftpx://"):
        listed("ftpx://server/folder")
    for url in ("s3://key:secret@bucket/folder", "https://host/a.wav?X-Amz-Signature=12"):
        with pytest.raises(UserError, match=r"^(s3|https)://\.\.\.: a password in a URL"):
            listed(url)


def test_a_folder_by_url_is_listed_like_one_of_this_machine(folder: Path) -> None:
    memory = pytest.importorskip("fsspec").filesystem("memory")
    for name in FILES:
        memory.pipe(f"/heard/{name}", b"12345")
    found = listed("memory://heard")
    assert [each.path for each in found] == [
        f"memory://heard/{name}" for name in ("a.flac", "b.wav", "sub/c.ogg", "sub/deep/d_20260131_235959.mp3")
    ]
    assert [(each.source, each.began, each.size) for each in found] == [
        (each.source, each.began, each.size) for each in listed(folder)
    ]


def test_shards_hold_one_date_and_source_each_and_are_bounded() -> None:
    day = datetime(2026, 1, 31, 12).timestamp()
    audio = [Audio(f"/{n}", "ab"[n % 2], day if n < 6 else None, 10) for n in range(9)]
    found = list(shards(audio, most_bytes=30, most_files=500))
    assert [(each.number, each.date, each.source, [path for path, _ in each.files]) for each in found] == [
        (0, "2026-01-31", "a", ["/0", "/2", "/4"]),
        (1, "2026-01-31", "b", ["/1", "/3", "/5"]),
        (2, None, "a", ["/6", "/8"]),
        (3, None, "b", ["/7"]),
    ]
    assert [len(each.files) for each in shards(audio, 1000, most_files=2)] == [2, 2, 2, 1, 1, 1]


def test_a_hundred_thousand_recordings_need_no_more_memory_than_a_few() -> None:
    def many() -> Iterator[Audio]:
        return (Audio(f"/recordings/{n:06d}.wav", f"source {n % 977}", None, 1000) for n in range(20_000))

    tracemalloc.start()
    try:
        assert sum(len(each.files) for each in shards(many(), 10**9, most_open=200)) == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
