"""Check the words of English pages, docstrings, comments and messages.

    python -m tools.words    exit code 1, naming each finding and each needless exception

Not read: tests; `docs/adr/`, records of their day; `docs/reference/`, written from the schema.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXTS = (
    *("*.md", "deploy/*.md", "docs/*.md", "docs/swap/*.md", "justfile"),
    *("proto/**/*.proto", "bench/**/*.py", "lab/**/*.py", "service/lnliquid/**/*.py"),
    "tools/**/*.py",
)
"""Which files are read, as patterns below the repository's root."""

WORDS = {
    r"(?:some|any|every|no)body|someone|no one|whoever": "name it: the buyer, another process",
    r"knobs?": "setting",
    r"mend(?:s|ed|ing)?": "fix, repair",
    r"reckon(?:s|ed|ing)?": "estimate, assume",
    r"older cop(?:y|ies)": "stale database, older database",
    r"put(?:s|ting)? aside": "retry later, in backoff",
    r"let(?:s|ting)? go": "release",
    r"turned back": "reverted",
    r"by (?:its|their|our|whose|another's) doing|(?:own|our) doing": "say which process did it",
    r"troubled": "faulty, with faults",
    r"on its feet": "name the helper",
}
"""Word or phrase → a plainer form, in every text. Letter case does not count."""

SUBJECT = re.compile(r"(What|Whoever)\b(?!.*\?$)")
"""A sentence of a page whose subject is a clause: "What is paid is final"."""

EVENT = re.compile(
    r"serving|ready|stopping|(?!not |paid |given |sent |paused |cannot )[a-z']+( [a-z']+)+"
)
"""A log event of the service: subject and verb in lower case, as `transaction abandoned`."""

LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}

EXCEPTIONS: tuple[str, ...] = (
    "lab/lnlab/actors/daemon.py",
    "lab/lnlab/actors/daemon_run.py",
    "lab/lnlab/actors/mining.py",
    "lab/lnlab/faults/orders.py",
    "lab/lnlab/faults/proxy.py",
    "lab/lnlab/lab.py",
    "lab/lnlab/nodes/children.py",
    "lab/lnlab/nodes/compose.py",
    "lab/lnlab/nodes/compose_containers.py",
    "lab/lnlab/nodes/embedded/block.py",
    "lab/lnlab/nodes/embedded/lightning/rpc.py",
    "lab/lnlab/nodes/embedded/policy.py",
    "lab/lnlab/nodes/process.py",
    "lab/lnlab/scenarios/containers.py",
    "lab/lnlab/scenarios/fundings.py",
    "lab/lnlab/scenarios/lightning_restart.py",
    "lab/lnlab/scenarios/loss.py",
    "lab/lnlab/scenarios/outage.py",
    "lab/lnlab/scenarios/paid.py",
    "lab/lnlab/scenarios/refund.py",
    "lab/lnlab/scenarios/watchers.py",
    "lab/lnlab/servers.py",
    "service/lnliquid/audit/explanations.py",
    "service/lnliquid/buyer/claim.py",
    "service/lnliquid/crashpoints.py",
    "service/lnliquid/daemon.py",
    "service/lnliquid/domain/reconcile.py",
    "service/lnliquid/domain/swap.py",
    "service/lnliquid/lightning/core_lightning.py",
    "service/lnliquid/lightning/rpc.py",
    "service/lnliquid/liquid/electrum_connection.py",
    "service/lnliquid/liquid/electrum_subscriptions.py",
    "service/lnliquid/seller/batch.py",
    "service/lnliquid/store/backup.py",
    "service/lnliquid/store/replica.py",
    "service/lnliquid/store/swaps.py",
    "service/lnliquid/watchers/chain_incidents.py",
    "service/lnliquid/watchers/chain_view.py",
    "service/lnliquid/watchers/funding.py",
    "service/lnliquid/watchers/invoices.py",
    "service/lnliquid/watchers/swaps.py",
    "service/lnliquid/watchers/transactions.py",
    "service/lnliquid/watchers/wakeups.py",
    "service/lnliquid/watchers/wallet.py",
)
"""Files with findings that are known. Sorted; the list may only get shorter."""

FORBIDDEN = re.compile(
    "|".join(rf"(?P<w{i}>\b(?:{p})\b)" for i, p in enumerate(WORDS)).replace(" ", r"[\s#/]+"),
    re.IGNORECASE,
)

PYTHON_TEXT = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)}

Finding = tuple[int, str]
"""Line number and message."""


def forbidden_words(text: str, first_line: int = 1) -> Iterator[Finding]:
    """Words of `WORDS` in a text, also where a line ends inside a phrase."""
    for match in FORBIDDEN.finditer(text):
        advice = list(WORDS.values())[int(str(match.lastgroup)[1:])]
        word = re.sub(r"[\s#/]+", " ", match[0])
        yield first_line + text.count("\n", 0, match.start()), f"{word!r}: {advice}"


def page_findings(text: str) -> Iterator[Finding]:
    """Findings of a Markdown page, without its fenced and generated blocks."""
    blank = re.compile(
        r"^```.*?^```$|<!-- [^>]*:begin.*?:end -->|`[^`\n]*`", re.MULTILINE | re.DOTALL
    )
    text = blank.sub(lambda m: re.sub(r"[^\n]", "_", m[0]), text)
    yield from forbidden_words(text)
    sentences = re.finditer(r"(?:^|[.!?] |^[-*] |^\d+\. |\| )(?=[A-Z])", text, re.MULTILINE)
    starts = [m.end() for m in sentences] + [len(text)]
    for start, end in pairwise(starts):
        if SUBJECT.match(" ".join(re.split(r"\n\n|\|", text[start:end])[0].split())):
            yield (
                text.count("\n", 0, start) + 1,
                "a sentence begins with 'What': subject, verb, object",
            )


def python_findings(source: str) -> Iterator[Finding]:
    """Findings in strings and comments of a Python file."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in PYTHON_TEXT:
            yield from forbidden_words(token.string, token.start[0])


def event_findings(source: str) -> Iterator[Finding]:
    """Log events of a Python file in another form than `EVENT`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="log"), attr=method),
                args=[ast.Constant(value=str(event)), *_],
            ) if method in LOG_METHODS and not EVENT.fullmatch(event):
                yield node.lineno, f"log event {event!r}: subject and verb in lower case"


def findings(path: Path) -> list[Finding]:
    """All findings of one file, by line."""
    text = path.read_text(encoding="utf-8")
    kinds = {".md": page_findings, ".py": python_findings}
    found = [*kinds.get(path.suffix, forbidden_words)(text)]
    if path.suffix == ".py" and "service" in path.parts:
        found += event_findings(text)
    return sorted(found)


def check(root: Path, exceptions: tuple[str, ...]) -> list[str]:
    """One line for each finding outside the exceptions, and for each exception without one."""
    files = sorted({path for pattern in TEXTS for path in root.glob(pattern)})
    found = {str(path.relative_to(root)): findings(path) for path in files}
    own = str(Path(__file__).relative_to(ROOT))
    lines = [
        f"{name}:{line}: {message}"
        for name, listed in found.items()
        if name != own and name not in exceptions
        for line, message in listed
    ]
    lines += [
        f"{name}: no finding is left; remove it from EXCEPTIONS"
        for name in exceptions
        if not found.get(name)
    ]
    if list(exceptions) != sorted(set(exceptions)):
        lines.append("EXCEPTIONS is not sorted")
    return lines


def main() -> None:
    """Command line of this tool."""
    lines = check(ROOT, EXCEPTIONS)
    print("\n".join(lines), end="\n" if lines else "")
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
