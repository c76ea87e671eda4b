"""Saved clips: listed, played and marked; and that no request leads out of their folder."""

import base64
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import soundfile

from tagger.clips import verdicts
from tagger.clips.folder import EVENTS, ClipFolder
from tagger.clips.saver import ClipSaver
from tagger.errors import AudioError
from tagger.events import Block, Event
from tagger.features.config import MelConfig
from tagger.times import rfc3339
from tagger.web.clips import ClipFile, Clips, ranges
from tests.web.pages import RATE_HZ, STREAM, Page, event, page, tone
from tests.web.test_api import fits

START = 1_800_000_000.0


def save(root: Path, *labels: str) -> Path:
    """Clips of tones, an hour apart, oldest first: the events e0, e1, ..."""
    folder = ClipFolder(root)
    for number, label in enumerate(labels):
        onset = START + 3600 * number
        saver = ClipSaver(folder, STREAM, RATE_HZ, 5.0)
        saver.heard(Block(tone(4.0, 1000, 0.0).samples, onset - 1))
        saver.event(Event("end", f"e{number}", label, 0.8, 0.9, onset, onset + 2))
        saver.close()
    folder.close(60)
    assert folder.lost == 0
    return root


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, Path]]:
    root = save(tmp_path_factory.mktemp("kept") / "clips", "siren", "dog", "siren", "dog")
    with page(clips=root) as served:
        yield served, root


@pytest.fixture
def served(kept: tuple[Page, Path]) -> Iterator[Page]:
    """No clip is marked, before and after."""
    yield kept[0]
    verdicts.mark(kept[1], dict.fromkeys(("e0", "e1", "e2", "e3"), "undo"))


def listed(served: Page, query: str = "") -> list[str]:
    return [clip["id"] for clip in served.json(f"/api/clips?{query}")["clips"]]


def test_clips_are_listed_newest_first_and_filtered(served: Page) -> None:
    found = served.json("/api/clips")
    fits("/api/clips", found)
    assert [clip["id"] for clip in found["clips"]] == ["e3", "e2", "e1", "e0"]
    assert (found["more"], found["train"]) == (False, None)
    assert listed(served, "label=siren") == ["e2", "e0"]
    assert listed(served, "source=door") == []
    assert listed(served, f"since={quote(rfc3339(START + 3600))}&limit=2") == ["e3", "e2"]
    assert served.json("/api/clips?limit=2")["more"] is True
    served.post("/api/clips/marks", '{"marks": {"e1": "right", "e2": "wolf"}}')
    assert listed(served, "verdict=none") == ["e3", "e0"]
    assert (listed(served, "verdict=other"), listed(served, "verdict=reviewed")) == (["e2"], ["e2", "e1"])


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "verdict=maybe", "since=x", "id=e1"])
def test_a_wrong_parameter_is_named(served: Page, query: str) -> None:
    status, _, text = served.ask(f"/api/clips?{query}")
    assert status == 400
    assert json.loads(text)["error"].startswith(query.partition("=")[0])


def test_a_clip_is_sent_whole_and_in_ranges(kept: tuple[Page, Path]) -> None:
    served, root = kept
    (path,) = root.glob("*/*_e1.flac")
    content = path.read_bytes()
    status, headers, text = served.ask("/api/clips/e1", text_of="latin-1")
    assert (status, text.encode("latin-1"), headers["content-type"]) == (200, content, "audio/flac")
    assert headers["content-disposition"] == f'inline; filename="{path.name}"'
    assert headers["accept-ranges"] == "bytes"
    assert served.ask("/api/clips/e1?download", "HEAD")[1]["content-disposition"].startswith("attachment; ")
    size = len(content)
    for asked, first, last in (
        ("0-0", 0, 0),
        ("5-", 5, size - 1),
        ("-7", size - 7, size - 1),
        ("10-999999999", 10, size - 1),
    ):
        status, found, text = served.ask("/api/clips/e1", text_of="latin-1", Range=f"bytes={asked}")
        assert (status, text.encode("latin-1")) == (206, content[first : last + 1])
        assert found["content-range"] == f"bytes {first}-{last}/{size}"
    status, found, _ = served.ask("/api/clips/e1", Range=f"bytes={size}-")
    assert (status, found["content-range"]) == (416, f"bytes */{size}")
    assert served.ask("/api/clips/e1", If_None_Match=headers["etag"])[0] == 304
    changed = served.ask("/api/clips/e1", text_of="latin-1", Range="bytes=0-0", If_Range='"another"')
    assert changed[0] == 200


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, None),
        ("bytes=0-", (0, 99)),
        ("bytes=0-4, 8-9", None),
        ("seconds=0-1", None),
        ("bytes=9-3", None),
        ("bytes=-", None),
        ("bytes=-500", (0, 99)),
        ("bytes=x-", None),
        (f"bytes=0-{'9' * 5000}", None),
        ("bytes=\u0663-", None),
    ],
)
def test_ranges(header: str | None, wanted: tuple[int, int] | None) -> None:
    assert ranges(header, 100) == wanted
    for beyond in ("bytes=100-", "bytes=-0"):
        with pytest.raises(ValueError, match=r"^(100-|-0)$"):
            ranges(beyond, 100)


def test_a_clip_s_picture_shows_its_tone_from_its_begin_to_its_end(served: Page) -> None:
    found = served.json("/api/clips/e1/spectrogram")
    fits("/api/clips/{id}/spectrogram", found)
    values = base64.b64decode(found["data"])
    columns = len(values) // found["bands"]
    assert found["seconds"] == pytest.approx(3.5, abs=0.01)  # from 1 s before the onset to 0.5 s after the offset
    assert found["begin_s"] + columns * found["step_s"] == pytest.approx(found["seconds"], abs=0.1)
    loudest = {max(range(found["bands"]), key=lambda band: values[at * found["bands"] + band]) for at in range(columns)}
    assert max(loudest) - min(loudest) <= 2


@pytest.mark.parametrize(
    "id",
    ["", ".", "..", "../events.jsonl", "..%2fevents.jsonl", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "e9", "e1%00", "e1.flac",
     "*", "siren%2f20270115T080000Z_mic_e0.flac", "%2fetc%2fpasswd", "reviewed.csv", "\\..\\x", "e1/../../x",
     "x" * 3000],
)  # fmt: skip
def test_only_an_event_s_id_leads_to_a_clip(served: Page, id: str) -> None:
    for path in (f"/api/clips/{id}", f"/api/clips/{id}/spectrogram"):
        if id:
            assert served.ask(path)[0] == 404, path


def test_links_and_names_that_lead_out_of_the_folder_are_no_clips(tmp_path: Path) -> None:
    root = save(tmp_path / "clips", "siren", "dog", "wolf", "cat")
    secret = tmp_path / "secret.flac"
    soundfile.write(secret, tone(1.0, 500, 0.0).samples, RATE_HZ)
    with page(clips=root) as served:
        assert len(listed(served)) == 4
        (file,) = root.glob("siren/*")
        file.unlink()
        file.symlink_to(secret)
        (root / "dog").rename(tmp_path / "elsewhere")
        (root / "dog").symlink_to(tmp_path / "elsewhere")
        (file,) = root.glob("wolf/*")
        file.unlink()
        os.mkfifo(file)
        line = json.loads((root / EVENTS).read_text().splitlines()[-1])
        with (root / EVENTS).open("a") as table:
            for number, name in enumerate(
                ["../secret.flac", str(secret), "x/../../secret.flac", "events.jsonl", EVENTS]
            ):
                table.write(json.dumps(line | {"id": f"f{number}", "file": name}) + "\n")
        assert listed(served) == ["e3"]
        for id in ("e0", "e1", "e2", *(f"f{number}" for number in range(5))):
            assert served.ask(f"/api/clips/{id}")[0] == 404
            assert served.ask(f"/api/clips/{id}/spectrogram")[0] == 404
        assert served.ask("/api/clips/e3", text_of="latin-1")[0] == 200


def test_a_link_that_takes_the_place_of_a_clip_that_was_opened_is_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, secret, opened = save(tmp_path / "clips", "siren"), tmp_path / "secret.flac", Clips.file
    soundfile.write(secret, tone(1.0, 500, 0.0).samples, RATE_HZ)
    (path,) = root.glob("siren/*")

    def open_and_swap(self: Clips, id: str) -> ClipFile:
        found = opened(self, id)
        path.unlink()
        path.symlink_to(secret)
        return found

    monkeypatch.setattr(Clips, "file", open_and_swap)
    assert Clips(root, MelConfig()).picture("e0")["seconds"] == pytest.approx(3.5, abs=0.01)  # the clip, not the link


def test_a_damaged_clip_is_named_and_where_its_copy_was_is_not(tmp_path: Path) -> None:
    root = save(tmp_path / "clips", "siren")
    (path,) = root.glob("siren/*")
    path.write_bytes(b"fLaC" + bytes(100))
    with pytest.raises(AudioError, match=rf"^{path.name}: "):
        Clips(root, MelConfig()).picture("e0")


def test_marks_are_those_of_the_terminal_and_each_step_can_be_taken_back(kept: tuple[Page, Path], served: Page) -> None:
    root = kept[1]

    def said() -> dict[str, tuple[str | None, str | None]]:
        return {clip.id: (clip.verdict, clip.given_label) for clip in verdicts.load(root)}

    verdicts.mark(root, {"e0": "wolf"})
    status, found = served.post("/api/clips/marks", '{"marks": {"e0": "wrong", "e1": "right", "e2": "DOG"}}')
    assert status == 200
    fits("/api/clips/marks", found, method="post")
    assert said() == {"e0": ("wrong", None), "e1": ("right", "dog"), "e2": ("other", "dog"), "e3": (None, None)}
    assert found["train"] == verdicts.train_line(root)
    assert found["undo"] == {"e0": "wolf", "e1": "undo", "e2": "undo"}
    siren = {"label": "siren", "right": 0, "wrong": 1, "other": 1, "unreviewed": 0, "precision": 0.0}
    dog = {"label": "dog", "right": 1, "wrong": 0, "other": 0, "unreviewed": 1, "precision": 1.0}
    assert found["labels"] == [siren, dog]
    served.post("/api/clips/marks", json.dumps({"marks": found["undo"]}))
    assert said() == {"e0": ("other", "wolf"), "e1": (None, None), "e2": (None, None), "e3": (None, None)}
    assert served.json("/api/clips")["clips"][3]["told"] == "wolf"


def test_the_page_and_the_terminal_mark_at_once_and_nothing_is_lost(kept: tuple[Page, Path], served: Page) -> None:
    root = kept[1]
    others = threading.Thread(target=lambda: [verdicts.mark(root, {id: "right"}) for id in ("e0", "e1") * 5])
    others.start()
    for id in ("e2", "e3") * 5:
        assert served.post("/api/clips/marks", json.dumps({"marks": {id: "wrong"}}))[0] == 200
    others.join()
    assert [clip["verdict"] for clip in served.json("/api/clips")["clips"]] == ["wrong", "wrong", "right", "right"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"marks": {}}', 400),
        ('{"marks": ["e0"]}', 400),
        ('{"marks": {"e0": 1}}', 400),
        ('{"marks": {"e0": " "}}', 400),
        ('{"marks": {"e0": "a/b"}}', 400),
        ('{"marks": {"e0": "right"}, "x": 1}', 400),
        ('{"marks": {"e0": "right", "nobody": "right"}}', 404),
        (json.dumps({"marks": {f"e{n}": "right" for n in range(501)}}), 400),
        (json.dumps({"marks": {"e0": "x" * 70_000}}), 413),
    ],
)
def test_marks_that_cannot_be_change_nothing(served: Page, body: str, status: int) -> None:
    found, answer = served.post("/api/clips/marks", body)
    assert found == status
    fits("/api/clips/marks", answer, str(status), "post")
    assert listed(served, "verdict=reviewed") == []
    assert served.ask("/api/clips/marks", "POST", body, content_type="text/plain")[0] == 415


def test_events_say_of_which_a_clip_was_kept(served: Page) -> None:
    served.live.event(STREAM, event("e1", START + 3600, START + 3602))
    served.live.event(STREAM, event("unkept", START, START + 1))
    found = served.json("/api/events")
    fits("/api/events", found)
    assert {each["id"]: each.get("clip", False) for each in found["events"]} == {"e1": True, "unkept": False}


def test_a_folder_that_cannot_be_read_is_said_and_events_stay(tmp_path: Path) -> None:
    root = save(tmp_path / "clips", "siren")
    with page(clips=root) as served:
        (root / "reviewed.csv").write_text("no table")
        served.live.event(STREAM, event("e0", START))
        assert len(served.json("/api/events")["events"]) == 1
        status, _, text = served.ask("/api/clips")
        assert (status, "reviewed.csv" in text) == (503, True), "no mistake of whoever asks"
        status, answer = served.post("/api/clips/marks", '{"marks": {"e0": "right"}}')
        assert (status, "reviewed.csv" in answer["error"]) == (503, True)
    with page(clips=tmp_path / "not yet") as served:
        (tmp_path / "not yet").mkdir()
        assert served.json("/api/clips")["clips"] == []
    with page() as served:
        status, _, text = served.ask("/api/clips")
        assert status == 404
        assert "--save-clips" in text
