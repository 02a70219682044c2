"""`python -m local.links`: finds links in Markdown files to a file or heading that does not exist in the checkout.

Links to other sites are not followed.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from local.places import ROOT

_FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2[`~]* *$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).+?\1")
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^ {0,3}\[[^\]]+\]:\s*<?(\S+?)>?\s*$", re.MULTILINE)
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


@dataclass(frozen=True)
class Document:
    """A Markdown file."""

    path: Path

    @cached_property
    def _prose(self) -> str:
        """The text without code blocks."""
        return _FENCE.sub("", self.path.read_text())

    @cached_property
    def anchors(self) -> frozenset[str]:
        """The names that GitHub gives to the headings."""
        slugs = [_slug(heading) for heading in _HEADING.findall(self._prose)]
        seen: Counter[str] = Counter()
        anchors = set()
        for slug in slugs:
            anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        return frozenset(anchors)

    def links(self) -> Iterator[str]:
        """The link targets within the checkout."""
        for inline, reference in _LINK.findall(_CODE.sub("", self._prose)):
            target = inline or reference
            if not _ELSEWHERE.match(target):
                yield target


def documents(root: Path) -> list[Path]:
    """The Markdown files below `root`, without those of installed packages."""
    files = root.rglob("*.md")
    return sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(root).parts))


def dead(root: Path) -> list[str]:
    """Each dead link, with the file that has it."""
    found = []
    for document in map(Document, documents(root)):
        for target in document.links():
            if not _leads_somewhere(document, target):
                found.append(f"{document.path.relative_to(root)}: {target}")
    return found


def _leads_somewhere(document: Document, target: str) -> bool:
    path, _, anchor = unquote(target).partition("#")
    file = (document.path.parent / path).resolve() if path else document.path
    if not file.exists():
        return False
    return not anchor or file.suffix != ".md" or anchor in Document(file).anchors


def _slug(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def main() -> int:
    links = dead(ROOT)
    print("\n".join([*links, f"{len(links)} dead links in {len(documents(ROOT))} Markdown files"]))
    return 1 if links else 0


if __name__ == "__main__":
    sys.exit(main())
