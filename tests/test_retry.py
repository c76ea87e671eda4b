"""What repeats is logged, never as a flood, and as news again when it had stopped for a while."""

from tagger.retry import Repeats


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_repeats_for_years_is_news_after_an_hour_without() -> None:
    clock = Clock()
    repeats, said = Repeats(clock), 0
    for _ in range(1_000):  # a flood
        said += repeats.add()
    assert said == 10
    for _ in range(100):  # a day each
        clock.now += 86_400
        assert repeats.add()
    assert repeats.count == 1_100
    clock.now += 10
    assert repeats.add(), "the second of this spell"
    assert not repeats.add()


def test_what_is_said_once_is_said_again_after_an_hour_without() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    assert [repeats.begins() for _ in range(5)] == [True, False, False, False, False]
    clock.now += 3_601
    assert [repeats.begins(), repeats.begins()] == [True, False]


def test_many_at_once_are_said_once() -> None:
    repeats = Repeats(Clock())
    assert [repeats.add(each) for each in (1, 100, 20, 10, 0)] == [True, True, False, True, False]
