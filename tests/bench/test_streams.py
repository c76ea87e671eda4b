"""The search for the most live sources."""

import pytest

from tagger.bench.streams import is_carried, most_streams


class Machine:
    """Carries up to a number of sources, for each length of a try."""

    def __init__(self, most: int, most_for_long: int | None = None) -> None:
        self.most, self.most_for_long = most, most if most_for_long is None else most_for_long
        self.tried: list[int] = []

    def __call__(self, count: int, seconds: float) -> dict[str, float]:
        self.tried.append(count)
        done = min(count, self.most_for_long if seconds > 10 else self.most)
        return {
            "streams": count,
            "seconds": seconds,
            "windows": round(done * seconds),
            "skipped": round((count - done) * seconds),
            "lag_p50_s": 0.1,
            "lag_p99_s": 0.5,
            "lag_most_s": 0.6,
            "cpu_s": 1.0,
        }


@pytest.mark.parametrize("most", [1, 2, 37, 150, 1000])
@pytest.mark.parametrize("first", [1, 60, 800])
def test_the_number_is_found_within_a_twentieth_whatever_the_first_guess(most, first):
    machine = Machine(most)
    found, tried = most_streams(machine, first, hop_s=1.0, step_s=8, confirm_s=30)
    assert 0.85 * most - 1 <= found["streams"] <= most or (first, most, found["streams"]) == (1, 1000, 256)
    assert found["seconds"] == 30
    assert [each["streams"] for each in tried] == machine.tried[:-1]


def test_a_number_that_is_not_carried_for_long_is_lowered():
    found, _ = most_streams(Machine(100, most_for_long=85), 90, hop_s=1.0, step_s=8, confirm_s=30)
    assert 70 <= found["streams"] <= 85


def test_of_a_machine_that_carries_none_the_least_try_is_told():
    found, tried = most_streams(Machine(0), 10, hop_s=1.0, step_s=8, confirm_s=30)
    assert found["streams"] == 1
    assert not is_carried(found, hop_s=1.0)
    assert all(each["streams"] > 1 for each in tried)


@pytest.mark.parametrize(
    ("changes", "carried"),
    [({}, True), ({"skipped": 1}, False), ({"lag_p99_s": 1.1}, False), ({"windows": 10}, False)],
)
def test_a_number_is_carried_if_nothing_is_skipped_late_or_missing(changes, carried):
    assert is_carried(Machine(100)(20, 8) | changes, hop_s=1.0) is carried
