from tagger.condition import Condition


def test_a_condition_in_stats_says_state_reason_and_since_when() -> None:
    condition = Condition("retrying", "refused", "refused by camera:554", 1_800_000_000.0, 3, 12.34)
    assert condition.to_json() == {
        "state": "retrying",
        "reason": "refused",
        "detail": "refused by camera:554",
        "since": "2027-01-15T08:00:00.000+00:00",
        "reconnects": 3,
        "last_audio_s": 12.3,
    }
    assert Condition().to_json()["last_audio_s"] is None


def test_a_source_outside_its_schedule_is_healthy_and_one_of_zeros_is_not() -> None:
    assert Condition("off", "schedule").is_healthy
    assert Condition("hearing", "quiet").is_healthy
    assert not Condition("silent", "zeros").is_healthy
    assert not Condition("retrying", "gone").is_healthy
    assert not Condition("ended", "failed").is_healthy
