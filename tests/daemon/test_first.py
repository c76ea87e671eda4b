"""The first test to read, and the shortest to copy: a daemon whose source, classifier and sink are fakes."""

import pytest

from tests.builders import daemon, plays
from tests.fakes import loud, silence
from tests.programs import until


def test_a_loud_second_is_an_event_of_one_second() -> None:
    with daemon(plays(silence(2), loud(1), silence(2))) as heard:
        until(lambda: heard.of("end"), "the event has ended")
    (begin,), (end,) = heard.of("begin"), heard.of("end")
    assert (begin.label, end.offset - begin.onset) == ("loud", pytest.approx(1, abs=0.1))
