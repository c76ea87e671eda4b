"""The name of this machine stands in what is kept, with a broker and without one."""

from pathlib import Path

import pytest

from tagger.history import log, scores
from tests.programs import run, write_siren


@pytest.mark.slow
def test_the_node_is_kept_with_events_and_scores_without_mqtt(tmp_path: Path) -> None:
    clip = write_siren(tmp_path / "clip.wav", silent_s=1)
    kept = tmp_path / "events.sqlite", tmp_path / "scores.sqlite"
    done = run("listen", clip, "--mqtt", "none", "--node", "attic", "--state", tmp_path / "state",
               "--event-log", kept[0], "--score-history", kept[1])  # fmt: skip
    assert done.exit_code == 0, done.output
    with log.reading(kept[0]) as database:
        assert database.execute("SELECT DISTINCT node FROM events").fetchall() == [("attic",)]
    with scores.reading(kept[1]) as database:
        assert database.execute("SELECT DISTINCT node FROM blocks").fetchall() == [("attic",)]
