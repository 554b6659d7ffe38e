"""A hook of mkdocs: files and links of the site that are not in `docs/`.

- A page of `PAGES` stands outside `docs/` and is part of the site all the same.
- Mermaid draws the diagrams. The theme would load it from elsewhere; the site brings it along,
  so that diagrams are drawn in a closed network. `tools/site/` holds it, compressed (0.7 MB).
- A link from a page to any other file of the repository becomes text: the forge that shows the
  Markdown follows it, the site cannot. A link that leads nowhere fails the build.
"""

import gzip
import hashlib
import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
ASSETS = ROOT / "tools/site"

PAGES = {"deploy/README.md": "deploy.md"}
"""Path below the repository's root → path below `docs/` that the site gives it."""

MERMAID = ("mermaid.tiny.js", "7a644017d37f93c8359790884e6b67fb1f747c78eb20475952404bd87190a3f8")
"""File and SHA-256 of `dist/mermaid.tiny.js` in version 11.17.2 of npm's `@mermaid-js/tiny`."""

COPIED = ("mermaid.LICENSE.txt", "site.css")
"""Files of `tools/site/` that the site holds as they are."""

DIAGRAM = '<pre class="mermaid">'
"""A diagram in the HTML of a page."""

LINK = re.compile(r"\[(?P<text>[^\]\n]*)\]\((?P<target>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")


def mermaid() -> bytes:
    """The script. `PluginError` when it is not the file whose hash is pinned."""
    name, pinned = MERMAID
    script = gzip.decompress((ASSETS / f"{name}.gz").read_bytes())
    found = hashlib.sha256(script).hexdigest()
    if found != pinned:
        raise PluginError(f"tools/site/{name}.gz: SHA-256 is {found}, pinned is {pinned}")
    return script


def site_links(page: str, markdown: str) -> str:
    """The page with links that hold in the site; `page` is its path there.

    Raises `PluginError` for a link to a file that does not exist.
    """
    source = {site: path for path, site in PAGES.items()}.get(page, f"docs/{page}")

    def replace(match: re.Match[str]) -> str:
        path = posixpath.normpath(str(PurePosixPath(source).parent / match["target"]))
        below_docs = path.startswith("docs/")
        if below_docs and source.startswith("docs/"):
            return match[0]
        if not (ROOT / path).exists():
            raise PluginError(f"{page}: the link to {match['target']} leads nowhere")
        target = path.removeprefix("docs/") if below_docs else PAGES.get(path)
        if target is None:
            return match["text"]
        relative = posixpath.relpath(target, PurePosixPath(page).parent)
        return f"[{match['text']}]({relative}{match['anchor'] or ''})"

    return LINK.sub(replace, markdown)


def on_files(files: Any, /, *, config: Any, **_: Any) -> Any:
    """Called by mkdocs with the files of `docs/`: adds pages and the script of the diagrams."""
    for path, site in PAGES.items():
        files.append(File.generated(config, site, content=(ROOT / path).read_text()))
    files.append(File.generated(config, f"assets/{MERMAID[0]}", content=mermaid()))
    for name in COPIED:
        files.append(File.generated(config, f"assets/{name}", abs_src_path=str(ASSETS / name)))
    return files


def on_page_markdown(markdown: str, /, *, page: Any, **_: Any) -> str:
    """Called by mkdocs for each page; `page` is a `mkdocs.structure.pages.Page`."""
    return site_links(page.file.src_uri, markdown)


def on_page_content(html: str, /, *, page: Any, **_: Any) -> str:
    """Called by mkdocs with a page's HTML: loads the script where there is a diagram."""
    if DIAGRAM not in html:
        return html
    script = posixpath.relpath(f"assets/{MERMAID[0]}", PurePosixPath(page.url).parent)
    return f'{html}\n<script src="{script}"></script>'
