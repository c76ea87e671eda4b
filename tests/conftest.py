"""Fixtures and settings of all tests: hypothesis' profile, a `$TAGGER_HOME` for each test, and the real data."""

import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Before hypothesis is imported: it keeps tables on disk, and tests write nothing into the repository.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(tempfile.gettempdir()) / "tagger-hypothesis"))

# Before torch is imported, also by programs that tests start. Tests run three at a time, on machines that may be busy:
# several threads each would spend most of their time waiting for one another. Set it to try more.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where Python is told to write no bytecode beside what it imports, as in many containers, it is kept in the virtual
# environment: hundreds of tests start programs, and each would compile all that it imports. torch alone takes seconds.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(sys.prefix) / "bytecode"))

from hypothesis import HealthCheck, settings

from tests.programs import ROOT, Mosquitto, write_siren

if TYPE_CHECKING:
    from tests.collect.postgres import Postgres

# Derandomised: a test that fails on one machine fails on all, and one that passes keeps passing.
settings.register_profile(
    "tagger",
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    # The home fixture below is one for all examples of a test; nothing in it depends on them.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("tagger")

# A shell starts what runs in the background deaf to Ctrl-C; the programs that tests start would be so, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = ROOT.parent / "shared"


_MARKERS = {"broker": "broker", "postgres": "slow", "shared": "data", "trained": "train"}
"""Fixtures, and the marker of a test that uses one."""
_DURATIONS = ROOT / "tests" / "durations.json"
"""Seconds of each test that took longer than `_QUICK_SECONDS` when they were recorded."""
_QUICK_SECONDS = 0.1
_LONG = ("train", "slow", "broker")
"""Markers of tests that may take long."""
_LONG_SECONDS = 2.0
"""Taken for the length of such a test where none was recorded."""


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by their fixtures and recorded durations, and puts the files that take longest first.

    A file is one unit of `--dist loadfile`: no fixture that trains a network is made twice, and no process waits at the
    end for another that has just begun a long file. Groups would be finer, but xdist 3.8 ignores them under pytest 9.2.
    """
    recorded = json.loads(_DURATIONS.read_text("utf-8"))
    seconds: Counter[Path] = Counter()
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        for fixture, marker in _MARKERS.items():
            if fixture in fixtures:
                item.add_marker(marker)
        is_long = any(item.get_closest_marker(marker) for marker in _LONG)
        seconds[item.path] += recorded.get(item.nodeid, _LONG_SECONDS if is_long else 0.0)
        if item.nodeid in recorded:
            item.add_marker("slow")
    items.sort(key=lambda item: -seconds[item.path])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help="Add tests that were not quick to durations.json.")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Adds the tests of this run that took longer than `_QUICK_SECONDS`. Run it on a quiet machine."""
    if not terminalreporter.config.getoption("--record-durations"):
        return
    seconds: Counter[str] = Counter()
    for kind in ("passed", ""):  # "": before and after the test itself
        for report in terminalreporter.getreports(kind):
            seconds[report.nodeid] += report.duration
    slow = {test: round(taken, 2) for test, taken in seconds.items() if taken > _QUICK_SECONDS}
    known = json.loads(_DURATIONS.read_text("utf-8"))
    _DURATIONS.write_text(json.dumps(dict(sorted((known | slow).items())), indent=1) + "\n", "utf-8")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`$TAGGER_HOME` in the test's own folder."""
    folder = tmp_path / "home"
    monkeypatch.setenv("TAGGER_HOME", str(folder))
    return folder


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real broker that lets anyone connect."""
    with Mosquitto(tmp_path) as mosquitto:
        yield mosquitto


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Postgres"]:
    """A real PostgreSQL server."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: scripts/setup dev")
    from tests.collect.postgres import Postgres

    server = Postgres(tmp_path_factory.mktemp("database"))
    yield server
    server.stop(signal.SIGQUIT)


@pytest.fixture
def database(postgres: "Postgres") -> str:
    """URL of a database without tables."""
    return postgres.made()


@pytest.fixture
def hangups() -> Iterator[None]:
    """Lets SIGHUP reach this process and those that the test starts: under nohup, all would ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A file of 35 s with a siren from second 7 on."""
    return write_siren(tmp_path / "clip.wav", silent_s=7)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository: `data/esc50`, `data/esc10_44k`, `weights`."""
    if not (SHARED / "weights").is_dir():
        pytest.skip(f"real data is not at {SHARED}")
    return SHARED
