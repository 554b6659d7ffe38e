"""A hook of mkdocs: links from a page to a file of the repository outside `docs/`.

The forge that shows the Markdown follows such links; the site cannot, since it holds `docs/` only.
The hook checks that the file exists and leaves its name standing as text, so that a strict build
fails for a link that leads nowhere and for nothing else.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError

DOCS = Path(__file__).resolve().parent.parent / "docs"

LINK = re.compile(r"\[(?P<text>[^\]\n]*)\]\((?P<target>(?:\.\./)+[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")


def outside(page: str, target: str) -> Path | None:
    """The file outside `docs/` that a link leads to from `page`, a path below `docs/`."""
    path = (DOCS / PurePosixPath(page).parent / target).resolve()
    return None if path.is_relative_to(DOCS) else path


def plain_links(page: str, markdown: str) -> str:
    """The page with its links out of `docs/` as text. `PluginError` for one that leads nowhere."""

    def replace(match: re.Match[str]) -> str:
        path = outside(page, match["target"])
        if path is None:
            return match[0]
        if not path.exists():
            raise PluginError(f"{page}: the link to {match['target']} leads nowhere")
        return match["text"]

    return LINK.sub(replace, markdown)


def on_page_markdown(markdown: str, /, *, page: Any, **_: Any) -> str:
    """What mkdocs calls for each page; `page` is a `mkdocs.structure.pages.Page`."""
    return plain_links(page.file.src_uri, markdown)
