"""The page's files. All of them are read at the start: a request is looked up by name, and opens no file."""

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("static")
_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True)
class PageFile:
    """One file."""

    content: bytes
    packed: bytes
    """The same, gzipped."""
    kind: str
    """Content type."""
    tag: str
    """Changes with the content."""


def page_files() -> Mapping[str, PageFile]:
    """All files of the page, by their path below static/. `languages.js` is made: it names the files of lang/."""
    paths = {path.relative_to(FOLDER).as_posix(): path for path in sorted(FOLDER.rglob("*")) if path.suffix in _KINDS}
    names = {path.stem: json.loads(path.read_bytes())["name"] for path in paths.values() if path.suffix == ".json"}
    made = f"export const LANGUAGES = {json.dumps(names, ensure_ascii=False)};\n"
    contents = {name: path.read_bytes() for name, path in paths.items()} | {"languages.js": made.encode()}
    return {name: _page_file(name, content) for name, content in contents.items()}


def _page_file(name: str, content: bytes) -> PageFile:
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    return PageFile(content, gzip.compress(content, mtime=0), _KINDS[Path(name).suffix], tag)
