"""The lock for threads that share a network."""

import threading
from collections.abc import Callable

import pytest

from tagger.engine.turns import Turns
from tests.programs import LONG_S, until


class Caller:
    """A thread that does what it is told, one thing after the other."""

    def __init__(self, turns: Turns, name: str, order: list[str]) -> None:
        self._turns, self._name, self._order = turns, name, order

    def start(self, rounds: int, inside: Callable[[], None] = lambda: None, counts: bool = True) -> threading.Thread:
        def call() -> None:
            for _ in range(rounds):
                with self._turns as turns:
                    if counts:
                        turns.count()
                    self._order.append(self._name)
                    inside()

        thread = threading.Thread(target=call)
        thread.start()
        return thread


def test_one_thread_is_in_at_a_time() -> None:
    turns, order, inside = Turns(), list[str](), list[int]()

    def enter() -> None:
        inside.append(1)
        assert len(inside) == 1
        inside.pop()

    threads = [Caller(turns, str(number), order).start(300, enter) for number in range(6)]
    for thread in threads:
        thread.join(LONG_S)
    assert len(order) == 1_800


@pytest.mark.parametrize("counts", [True, False])
def test_who_has_waited_longest_for_a_turn_comes_first(counts: bool) -> None:
    """The holder comes again while the others wait; they come in the order of their last turns."""
    turns, order = Turns(), list[str]()
    go_on = threading.Event()

    def hold() -> None:
        if order.count("holder") == 1:
            assert go_on.wait(LONG_S)

    holder = Caller(turns, "holder", order).start(4, hold)
    until(lambda: order == ["holder"], "it is in")
    others = [Caller(turns, name, order).start(2, counts=counts) for name in ("one", "two")]
    until(lambda: len(turns.waiting) == 2, "they wait")
    go_on.set()
    for thread in (holder, *others):
        thread.join(LONG_S)
    assert set(order[1:3]) == {"one", "two"}, "before the holder's second turn"
