"""What comes from a broker faster than it is handled takes bounded memory."""

from collections import deque
from collections.abc import Callable

import pytest

from tagger.mqtt import inbox
from tagger.mqtt.inbox import Inbox


def test_of_messages_that_nobody_handles_so_many_wait_and_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inbox, "MOST_BYTES", 1_000_000)
    steps: deque[Callable[[], None]] = deque()
    handled: list[tuple[str, bytes, bool]] = []
    box = Inbox(steps.append, lambda *message: handled.append(message))

    def flood(payload: bytes) -> None:
        for number in range(100):
            box.receive(f"request/{number}", payload, False)

    flood(b"x" * 50_000)
    assert 15 <= len(steps) <= 20
    assert box.left_out.count == 100 - len(steps)
    assert "1 message is left out" in caplog.text
    while steps:
        steps.popleft()()
    assert [topic for topic, _, _ in handled] == [f"request/{number}" for number in range(len(handled))]
    handled.clear()
    flood(b"")
    assert len(steps) == 100, "there is room again"
