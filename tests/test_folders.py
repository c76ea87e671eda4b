"""Which files of a folder are found, and which links are followed."""

from pathlib import Path

from tagger.folders import walk


def test_a_link_to_a_folder_stands_for_it_once_and_none_leads_in_a_circle(tmp_path: Path) -> None:
    root, disk = tmp_path / "recordings", tmp_path / "disk"
    for folder in (root / "attic", disk / "2026" / "05", tmp_path / "other"):
        folder.mkdir(parents=True)
        (folder / "a.wav").touch()
    (disk / "2026" / "back").symlink_to(root)
    (root / "archive").symlink_to(disk / "2026")
    (root / "attic" / "again").symlink_to(disk / "2026" / "05")
    (root / "attic" / "same").symlink_to(root / "attic")
    (root / "attic" / "up").symlink_to("..")
    (root / "attic" / "top").symlink_to("/")
    (root / "gone").symlink_to(tmp_path / "nothing")
    (root / "circle").symlink_to("circle")
    (root / ".hidden").symlink_to(tmp_path / "other")
    assert [path.relative_to(root).as_posix() for path in walk(root)] == [
        "circle",
        "gone",
        "archive/05/a.wav",
        "attic/a.wav",
    ]
    (tmp_path / "linked").symlink_to(root)
    assert list(walk(tmp_path / "linked")) == [tmp_path / "linked" / path.relative_to(root) for path in walk(root)]
