from pathlib import Path

import matplotlib.colors
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from train.evaluate import timeline
from train.evaluate.detection import Point
from train.evaluate.found import Found
from train.evaluate.soundscape import Annotation

TRUTH = [
    Annotation("dog", 2, 4, 10, "1.wav"),
    Annotation("$x_{y$", 6, 12, 3, "2.wav"),
    Annotation("cow", 90, 95, 3, "3"),
]
FOUND = [Found("dog", 2.5, 5, 0.9, 3.5), Found("siren", 7, 8, 0.6, 8.5), Found("dog", 40, 41, 0.6, 41.5)]


def bars(figure: object) -> list[tuple[float, float, str]]:
    """Onset, offset and colour of each bar."""
    (axes,) = figure.axes  # type: ignore[attr-defined]
    found = [bar.patches[0] for bar in axes.containers]
    return [
        (
            round(each.get_x(), 6),
            round(each.get_x() + each.get_width(), 6),
            matplotlib.colors.to_hex(each.get_facecolor()),
        )
        for each in found
    ]


def rows(figure: object) -> list[str]:
    (axes,) = figure.axes  # type: ignore[attr-defined]
    return [text.get_text() for text in axes.get_yticklabels()]


def test_what_is_in_the_stretch_is_drawn_and_nothing_else():
    figure = timeline.timeline(TRUTH, FOUND, (0, 20), "title")
    assert rows(figure) == ["dog", "$x_{y$", "siren"]
    drawn = bars(figure)
    assert [each[:2] for each in drawn] == [(2, 4), (6, 12), (2.5, 5), (7, 8)]
    sound, other_sound, right, false = (each[2] for each in drawn)
    assert sound == other_sound
    assert len({sound, right, false}) == 3


def test_an_event_is_right_also_where_its_sound_is_outside():
    figure = timeline.timeline(TRUTH, FOUND, (4.5, 20), "title")
    assert bars(figure)[1][:2] == (2.5, 5)
    assert bars(figure)[1][2] == bars(timeline.timeline(TRUTH, FOUND, (0, 20), "title"))[2][2]


def test_a_publication_is_drawn_where_it_was():
    (axes,) = timeline.timeline(TRUTH, FOUND, (0, 20), "title").axes
    ticks = [segment[0][0] for segment in axes.collections[-1].get_segments()]
    assert ticks == [3.5, 8.5]


def test_the_picture_is_1400_wide_and_the_same_every_time(tmp_path: Path):
    for name in ("one.png", "two.png"):
        timeline.write(tmp_path / name, TRUTH, FOUND, (0, 100), "kitchen")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert 1390 <= picture.width <= 1420


@pytest.mark.parametrize(("truth", "found"), [([], []), (TRUTH, []), ([], FOUND)])
def test_a_stretch_may_be_empty(tmp_path, truth, found):
    timeline.write(tmp_path / "one.png", truth, found, (0, 100), "title")
    assert (tmp_path / "one.png").stat().st_size > 1000


def test_a_stretch_has_a_length(tmp_path):
    with pytest.raises(ValueError, match="no length"):
        timeline.write(tmp_path / "one.png", TRUTH, FOUND, (5, 5), "title")


points = st.builds(Point, st.floats(0, 1), st.floats(0, 1e4), st.floats(0, 1))


@given(st.lists(points, max_size=30))
def test_a_curve_goes_through_its_points(found):
    (axes,) = timeline.tradeoff({"one": found}).axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [each.false_alarms_per_hour for each in found]
    assert list(line.get_ydata()) == [100 * each.missed for each in found]
    assert len(axes.texts) <= 6


def test_curves_are_written_and_named(tmp_path):
    found = [Point(0.5, 0, 0.4), Point(0.3, 20, 0.1)]
    timeline.write_curves(tmp_path / "one.png", {"one": found, "other": found[:1]})
    timeline.write_curves(tmp_path / "none.png", {})
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width > 900
    (axes,) = timeline.tradeoff({"one": found, "other": found[:1]}).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "other"]
