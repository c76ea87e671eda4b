"""The Markdown files name only files, tests, Python names, headings, commands and options that exist."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tagger.cli.main import main as cli
from tests.programs import ROOT

PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "deploy/*.md", "tests/*.md")
    for page in ROOT.glob(pattern)
)  # fmt: skip
_PATH = re.compile(
    r"(?<![\w/.-])((?:tagger|train|tests|bench|scripts|docs|deploy)/(?:[\w.-]+/)*(?:[\w-]+(?:\.\w+)+)?|scripts/\w+)"
    r"(?![\w#<])(?:::(\w+))?"
)
"""A file, or a folder with a slash at its end; a test after `::`. Topics, as `tagger/attic/status`, have neither."""
_PLACEHOLDER = "NAME"
_DOTTED = re.compile(r"(?<![\w/.-])((?:tagger|train)(?:\.\w+)+)(?![\w/-])")
_NO_MODULE = (".toml", ".json", ".service", ".password")
_COMMAND = re.compile(r"(?:^|[|;&(] *|\.venv/bin/)(tagger(?: [^|;&#`]*|$))")
_LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]*))?\)")


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Anchors of the page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def names(body: list[ast.stmt]) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Names that a module or class defines, each with the body of its class."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node.name, node.body
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, []
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield target.id, []
        elif isinstance(node, ast.If):
            yield from names(node.body)
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.name, []) for alias in node.names if alias.asname == alias.name)  # given on


def exists(dotted: str) -> bool:
    """Whether the name is a package, a module, or something that a module defines. Imports nothing."""
    parts, place = dotted.split("."), ROOT
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    if parts and (place / f"{parts[0]}.py").is_file():
        place /= f"{parts.pop(0)}.py"
    else:
        place /= "__init__.py"
    body = ast.parse(place.read_text("utf-8")).body
    for part in parts:
        found = dict(names(body))
        if part not in found:
            return False
        body = found[part]
    return True


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_files_and_tests_that_a_page_names_exist(page: Path) -> None:
    for path, test in _PATH.findall(page.read_text("utf-8")):
        assert _PLACEHOLDER in path or (ROOT / path).exists(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text("utf-8"), f"{path}::{test}"


def test_python_names_in_a_page_exist(page: Path) -> None:
    for code in re.findall(r"`([^`\n]+)`", prose(page)):
        for dotted in _DOTTED.findall(code):
            assert dotted.endswith(_NO_MODULE) or exists(dotted), dotted


def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for path, anchor in _LINK.findall(prose(page)):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_the_checks_above_notice_a_wrong_name() -> None:
    assert exists("tagger.listen.Listener")
    assert not exists("tagger.listen.Listenr")
    assert not exists("tagger.lsten")
    assert "what-is-published" in anchors(ROOT / "README.md")
    assert _PATH.findall("see tests/a.py::test_b, `docs/` and tagger/attic/status") == [
        ("tests/a.py", "test_b"),
        ("docs/", ""),
    ]


def test_the_table_of_long_modules_has_them_all() -> None:
    """With some room, so that no line more or less of a module changes the page."""
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    section = page.partition("## Which modules are long")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^\| `([\w/]+\.py)`", section, re.MULTILINE))
    lines = {
        str(path.relative_to(ROOT)): path.read_text("utf-8").count("\n")
        for package in ("tagger", "train")
        for path in (ROOT / package).rglob("*.py")
    }
    assert {name for name, count in lines.items() if count > 370} <= listed
    assert {name for name, count in lines.items() if count < 330}.isdisjoint(listed)


def test_the_table_of_layers_is_that_of_the_contracts() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    table = page.partition("## What may import what?")[2].partition("\n\n- ")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("|")][2:]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = {each["containers"][0]: each["layers"] for each in contracts if each["type"] == "layers"}
    for column, package in ((2, "tagger"), (3, "train")):
        shown = [set(re.findall(r"`(\w+)`", row[column])) for row in rows]
        wanted = [{name.strip() for name in layer.split("|")} - {"__main__"} for layer in layers[package]]
        assert [row for row in shown if row] == wanted


def test_the_table_of_places_has_every_package_and_only_modules_that_are_there() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    table = page.partition("## Where is what?")[2].partition("\n\nEach package")[0]
    rows = re.findall(r"^\| (`(?:tagger|train)/.*?) \| (.*) \|$", table, re.MULTILINE)
    listed: set[str] = set()
    for places, words in rows:
        first, *others = re.findall(r"`([\w/.]+)`", places)
        listed |= {first, *(str(Path(first).parent / other) for other in others)}
        if first.endswith("/"):
            for name in re.findall(r"`(\w+\.py)`", words):
                assert (ROOT / first / name).is_file(), f"{first}{name}"
    packages = {f"{path.parent.relative_to(ROOT)}/" for path in (ROOT / "tagger").glob("*/__init__.py")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "tagger").glob("[!_]*.py")}
    assert packages | modules <= listed


def test_a_benchmark_that_imports_another_can_be_run_by_its_path() -> None:
    for path in [*(ROOT / "bench").glob("*.py"), *(ROOT / "bench/others").glob("*.py")]:
        code = path.read_text("utf-8")
        if "from bench." in code and "__main__" in code:
            assert code.find("sys.path.insert(") in range(code.index("from bench.")), path.name


def commands(page: Path) -> Iterator[str]:
    """The commands of tagger in the page's blocks of shell, and those that its prose names."""
    text = page.read_text("utf-8")
    for block in re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            yield from (found.group(1).strip() for found in _COMMAND.finditer(line))
    yield from re.findall(r"(?<!`)`(tagger [a-z-][^`\n]*)`(?!`)", prose(page))


def wrong_in(command: str) -> str:
    """The first word of a command that is neither command nor option. Empty: there is none."""
    words = shlex.split(command, comments=True)[1:]
    found: click.Command = cli
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        try:
            _, inner, words = found.resolve_command(click.Context(found), words)
        except click.ClickException:
            return words[0]
        assert inner is not None
        found = inner
    inside = found.commands.values() if isinstance(found, click.Group) else ()
    known = {
        option
        for each in (found, *inside)
        for parameter in each.get_params(click.Context(each))
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    return next((word for word in words if word.startswith("--") and word.partition("=")[0] not in known), "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist_and_have_their_options(page: Path) -> None:
    found = [(command, wrong_in(command)) for command in commands(page)]
    assert [(command, word) for command, word in found if word] == []


def test_a_wrong_command_is_noticed() -> None:
    assert wrong_in("tagger listn") == "listn"
    assert wrong_in("tagger listen --hopp 1") == "--hopp"
    assert wrong_in("tagger fleet town.toml --rai auto") == "--rai"
    assert wrong_in("tagger config chek") == "chek"
    assert wrong_in("tagger listen --hop=1 mic") == ""
    assert len(list(commands(ROOT / "README.md"))) > 40
