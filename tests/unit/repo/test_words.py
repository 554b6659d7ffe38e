"""The check of words finds what it should, and its list of exceptions only gets shorter."""

from pathlib import Path

import pytest

from tools.words import (
    EVENT,
    EXCEPTIONS,
    ROOT,
    check,
    forbidden_words,
    page_findings,
    python_findings,
)

SENTENCE = "a sentence begins with 'What': subject, verb, object"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Nobody pays, and whoever asks is told.", ["Nobody", "whoever"]),
        ("an older\n  copy of it", ["older copy"]),
        ("// put\n// aside for a while", ["put aside"]),
        ("mended, reckons, a knob, by our doing", ["mended", "reckons", "knob", "by our doing"]),
        ("The buyer recommends a settled amendment.", []),
        ("the body of a request", []),
    ],
)
def test_a_forbidden_word_is_found(text: str, found: list[str]) -> None:
    """Whole words and phrases, in any letter case, also across the end of a line."""
    messages = [message for _, message in forbidden_words(text)]
    assert [" ".join(message.split("'")[1].split()) for message in messages] == found


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("# T\n\nIt ends. What is paid\nis final.\n", [3]),
        ("- What is paid is final.\n", [1]),
        ("| a | What is paid is final. |\n", [1]),
        ("What is paid?\n\n## What is verified\n", []),
        ("It says what is paid.\n", []),
        ("```text\nWhat is paid is final.\n```\n", []),
        ("<!-- x:begin -->\nWhat is paid is final.\n<!-- x:end -->\n", []),
    ],
)
def test_a_sentence_with_a_clause_as_subject_is_found(text: str, lines: list[int]) -> None:
    """In prose, lists and tables; not in questions, headings, fenced or generated blocks."""
    assert [(line, SENTENCE) for line in lines] == list(page_findings(text))


def test_strings_and_comments_of_python_are_read() -> None:
    """Names are not: they are for another day."""
    source = 'nobody = 1  # nobody\nsay(f"nobody {name}")\n"""\nnobody\n"""\n'
    assert [line for line, _ in python_findings(source)] == [1, 2, 4]


@pytest.mark.parametrize(
    ("event", "is_good"),
    [
        ("transaction abandoned", True),
        ("invoice is not the swap's", True),
        ("serving", True),
        ("Transaction abandoned", False),
        ("transaction_abandoned", False),
        ("given up", False),
        ("not sent yet", False),
        ("invoice gone: look", False),
        ("abandoned", False),
    ],
)
def test_a_log_event_has_one_form(event: str, is_good: bool) -> None:
    """Subject and verb."""
    assert bool(EVENT.fullmatch(event)) == is_good


def write(root: Path, name: str, text: str) -> None:
    """A file of a tree made for one test."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_findings_and_needless_exceptions_are_named(tmp_path: Path) -> None:
    """A finding outside the exceptions; an exception without one, or without a file; disorder."""
    write(tmp_path, "docs/a.md", "Nobody pays.\n")
    write(tmp_path, "docs/b.md", "Nobody pays.\n")
    write(tmp_path, "docs/c.md", "The buyer pays.\n")
    write(tmp_path, "service/lnliquid/x.py", 'log.warning("given up")\n')
    assert check(tmp_path, ("docs/b.md", "docs/c.md", "docs/gone.md")) == [
        "docs/a.md:1: 'Nobody': name it: the buyer, another process",
        "service/lnliquid/x.py:1: log event 'given up': subject and verb in lower case",
        "docs/c.md: no finding is left; remove it from EXCEPTIONS",
        "docs/gone.md: no finding is left; remove it from EXCEPTIONS",
    ]
    assert check(tmp_path, ("service/lnliquid/x.py", "docs/b.md", "docs/a.md")) == [
        "EXCEPTIONS is not sorted"
    ]


def test_the_tree_is_clean_but_for_the_exceptions() -> None:
    """No new finding, no needless exception, and not one exception more than there were."""
    assert check(ROOT, EXCEPTIONS) == []
    assert len(EXCEPTIONS) <= 45
