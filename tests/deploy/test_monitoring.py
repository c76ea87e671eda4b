"""Alert rules and the Grafana board ask for what `/metrics` has; Prometheus' own tool tries the rules."""

import json
import re
import shutil
import subprocess
from typing import Any, get_args

import pytest

from tagger.condition import State
from tagger.daemon.metrics import exposition
from tests.daemon.test_metrics import SNAPSHOT
from tests.programs import ROOT

RULES = ROOT / "deploy" / "prometheus" / "tagger.rules.yml"
BOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "tagger.json").read_text("utf-8"))
_NAME = re.compile(r"\b(?:tagger|process)_[a-z_]+")
_STATE = re.compile(r'state=~?"([a-z|]+)"')


def known() -> set[str]:
    """Names of all metrics, and of the parts of histograms."""
    return set(re.findall(r"^([a-z_]+)[ {]", exposition(SNAPSHOT), re.MULTILINE))


def queries() -> list[str]:
    """Everything that the board asks for."""
    texts = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
    return texts + [each["query"]["query"] for each in BOARD["templating"]["list"] if each["type"] == "query"]


def test_the_board_asks_for_what_there_is() -> None:
    assert len(BOARD["panels"]) > 10
    for text in queries():
        assert set(_NAME.findall(text)), text
        assert set(_NAME.findall(text)) <= known(), text
        assert {each for states in _STATE.findall(text) for each in states.split("|")} <= set(get_args(State)), text


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24


def test_rules_ask_for_what_there_is() -> None:
    text = re.sub(r"(?m)^\s*#.*$", "", RULES.read_text("utf-8"))
    asked = {
        name for expr in re.findall(r"expr:(.*?)\n +(?:for|labels):", text, re.DOTALL) for name in _NAME.findall(expr)
    }
    assert len(asked) > 5
    assert asked <= known()
    assert {each for states in _STATE.findall(text) for each in states.split("|")} <= set(get_args(State))


@pytest.mark.parametrize(
    "args",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "tagger.rules.yml"),
        ("test", "rules", "tagger.tests.yml"),
    ],
)
def test_promtool_accepts_the_rules_and_their_tests(args: tuple[str, ...]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (apt install prometheus)")
    done = subprocess.run(["promtool", *args], cwd=RULES.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
