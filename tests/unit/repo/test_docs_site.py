"""The pages of `docs/`: links lead somewhere, and translations keep up with their originals."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mkdocs.exceptions import PluginError

from tools import docs_site
from tools.docs_site import DOCS, ROOT, site_links

TRANSLATED = {"ja/start.md": "start.md", "ja/buyer.md": "buyer.md"}
"""Page in Japanese → the page it translates, paths below `docs/`."""

FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("page", "markdown", "shown"),
    [
        ("buyer.md", "[`verify`](../service/lnliquid/buyer/verify.py)", "`verify`"),
        ("buyer.md", "[lab](lab.md#commands)", "[lab](lab.md#commands)"),
        ("swap/grpc.md", "[lock](../adr/0001-libraries.md)", "[lock](../adr/0001-libraries.md)"),
        ("buyer.md", "[container](../deploy/README.md#run)", "[container](deploy.md#run)"),
        ("swap/grpc.md", "[container](../../deploy/README.md)", "[container](../deploy.md)"),
        ("deploy.md", "[risks](../docs/operator.md#limits)", "[risks](operator.md#limits)"),
        ("deploy.md", "[variables](env.example)", "variables"),
        ("deploy.md", "[Docker](https://docs.docker.com/)", "[Docker](https://docs.docker.com/)"),
    ],
)
def test_links_hold_in_the_site(page: str, markdown: str, shown: str) -> None:
    """A link to a page leads to the page; a link to another file of the repository is text."""
    assert site_links(page, markdown) == shown


@pytest.mark.parametrize(
    ("page", "link"),
    [("buyer.md", "../service/lnliquid/buyer/gone.py"), ("deploy.md", "../docs/gone.md")],
)
def test_a_link_must_lead_somewhere(page: str, link: str) -> None:
    """A link to a file that was moved fails the build."""
    with pytest.raises(PluginError, match="leads nowhere"):
        site_links(page, f"[gone]({link})")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `just check` builds it."""
    path = tmp_path_factory.mktemp("site")
    mkdocs = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(path),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(mkdocs, cwd=ROOT, env=environment, check=True, timeout=100)
    return path


def test_diagrams_are_drawn_without_a_network(site: Path) -> None:
    """A page with a diagram loads the drawing script from the site itself, licence beside it."""
    drawn = [page for page in site.rglob("*.html") if '<pre class="mermaid">' in page.read_text()]
    assert [page.name for page in sorted(drawn)] == ["architecture.html", "how-it-works.html"]
    for page in drawn:
        (script,) = re.findall(r'<script src="([^"]*mermaid[^"]*)"', page.read_text())
        assert (page.parent / script).resolve() == site / "assets/mermaid.tiny.js"
    assert (site / "assets/mermaid.tiny.js").read_bytes().endswith(b'["mermaid"].default;\n')
    assert "MIT License" in (site / "assets/mermaid.LICENSE.txt").read_text()


def test_the_container_page_is_part_of_the_site(site: Path) -> None:
    """`deploy/README.md` is a page; its links and those to it lead to pages."""
    page = (site / "deploy.html").read_text()
    assert 'href="operator.html#limits-and-risks"' in page
    assert "deploy.html" in (site / "operator.html").read_text()


def test_another_drawing_script_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script is pinned by its hash."""
    monkeypatch.setattr(docs_site, "MERMAID", (docs_site.MERMAID[0], "0" * 64))
    with pytest.raises(PluginError, match="SHA-256"):
        docs_site.mermaid()


@pytest.mark.parametrize(("translation", "original"), TRANSLATED.items())
def test_a_translation_has_the_commands_of_its_original(translation: str, original: str) -> None:
    """A reader of the Japanese page types the same commands, in the same order."""
    blocks = {page: FENCE.findall(_text(page)) for page in (translation, original)}
    assert blocks[translation] == blocks[original]
    assert blocks[original]


@pytest.mark.parametrize(("translation", "original"), TRANSLATED.items())
def test_a_translation_has_the_sections_of_its_original(translation: str, original: str) -> None:
    """A section that was added to the original and forgotten in Japanese fails here."""
    levels = [re.findall(r"^(#+) ", _text(page), re.MULTILINE) for page in (translation, original)]
    assert levels[0] == levels[1]


def _text(page: str) -> str:
    return (Path(DOCS) / page).read_text(encoding="utf-8")
