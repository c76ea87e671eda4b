"""Latencies of a source, and the warning about skipped windows."""

from tagger.latencies import LATENCY_BOUNDS_S, Latencies, SkipLog


def test_latencies_are_given_once_and_the_recent_ones_are_kept():
    latencies = Latencies()
    for number in range(150):
        latencies.add(number / 1000)
        if number % 10 == 0:
            latencies.skip()
    assert latencies.take() == [number / 1000 for number in range(150)]
    assert latencies.take() == []
    recent = latencies.recent()
    assert len(recent) == 100
    assert recent.count(None) == 9
    counts, sum_s = latencies.histogram()
    assert counts[:4] == (11, 15, 25, 50)
    assert sum(counts) == 150
    assert abs(sum_s - sum(range(150)) / 1000) < 1e-9


def test_a_latency_beyond_all_bounds_is_counted():
    latencies = Latencies()
    latencies.add(1000.0)
    assert latencies.histogram() == ((*(0 for _ in LATENCY_BOUNDS_S), 1), 1000.0)


def test_skipped_windows_are_warned_of_once_a_minute(caplog):
    """20 sources skip every second window, ten times a second, for three minutes."""
    now = [0.0]
    skips = SkipLog(0.1, lambda: now[0])
    for step in range(1_800):
        now[0] = step / 10
        for number in range(20):
            (skips.skipped if step % 2 else skips.classified)(f"room{number}")
    assert len(caplog.messages) == 3
    assert caplog.messages[0] == (
        "inference is slower than the hop of 0.1 s; skipped since the last such line: 1 of 2 windows of room0; "
        "use a longer --hop, or fewer sources"
    )
    assert "300 of 600 windows of room1, " in caplog.messages[1]
    assert "and windows of 15 other sources" in caplog.messages[1]
