"""The page's files. All of them are read at the start: a request is looked up by name, and opens no file."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("static")
_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
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
    """All files of the page, by name."""
    found = {}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in _KINDS:
            content = path.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            found[path.name] = PageFile(content, gzip.compress(content, mtime=0), _KINDS[path.suffix], tag)
    return found
