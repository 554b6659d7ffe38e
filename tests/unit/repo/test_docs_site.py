"""The pages of `docs/`: links lead somewhere, and translations keep up with their originals."""

import re
from pathlib import Path

import pytest
from mkdocs.exceptions import PluginError

from tools.docs_links import DOCS, plain_links

TRANSLATED = {"ja/start.md": "start.md", "ja/buyer.md": "buyer.md"}
"""Page in Japanese → the page it translates, paths below `docs/`."""

FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_a_link_out_of_docs_becomes_text() -> None:
    """The site holds `docs/` only, so a link to a source file stands there as its name."""
    assert plain_links("buyer.md", "see [`verify`](../service/lnliquid/buyer/verify.py).") == (
        "see `verify`."
    )


def test_a_link_out_of_docs_must_lead_somewhere() -> None:
    """A link to a source file that was moved fails the build."""
    with pytest.raises(PluginError, match="leads nowhere"):
        plain_links("buyer.md", "[gone](../service/lnliquid/buyer/gone.py)")


@pytest.mark.parametrize("markdown", ["[lab](lab.md#commands)", "[lock](../adr/0001-libraries.md)"])
def test_a_link_inside_docs_is_left_alone(markdown: str) -> None:
    """Links between pages are for mkdocs to check."""
    assert plain_links("swap/how-it-works.md", markdown) == markdown


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
