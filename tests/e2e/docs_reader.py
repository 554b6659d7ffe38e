"""A reader of the documentation who types every command of a page into a shell, from top to bottom.

What the pages write as an example (a directory, a swap id, a path of the operator's) is replaced by
what this reader's lab has. Lines that cannot be run here are named with the reason.
"""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
KEPT = re.compile(r"(source|export) ")
"""Lines whose effect the shell keeps for all that follow."""


def commands(page: str) -> Iterator[str]:
    """The commands of a page (path from the root), continued lines joined, comments left out."""
    for block in FENCE.findall((ROOT / page).read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip() and not line.startswith("#"):
                yield line


@dataclass
class Answer:
    """How a command ended."""

    line: str
    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"$ {self.line}\n{self.out}{self.err}(exit code {self.code})"


@dataclass
class Reader:
    """A shell in `directory` (also the home), `/tmp/lab` of the pages being `lab`."""

    directory: Path
    lab: Path
    substitutes: dict[str, Callable[["Reader"], str]] = field(default_factory=dict)
    """Regular expression → what this reader writes in its place."""
    kept: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def here(self, line: str) -> str:
        """The line with this reader's paths in place of the page's."""
        mine = line.replace("/tmp/lab", str(self.lab))
        mine = re.sub(r"^\./justw\b", "just", mine)
        for pattern, value in self.substitutes.items():
            if re.search(pattern, mine):
                mine = re.sub(pattern, value(self).replace("\\", r"\\"), mine)
        return mine

    def type(self, line: str, *, timeout_secs: float = 90.0) -> Answer:
        """Run one line, answering yes to each question. Nothing is raised for its end."""
        mine = self.here(line)
        if KEPT.match(line):
            self.kept.append(mine)
        environment = dict(os.environ) | {
            "HOME": str(self.directory),
            # `just` runs in the checkout, where another test may have a lab at the same time.
            "LNLAB_DIR": str(self.directory / ".lab"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        keyboard, terminal = pty.openpty()
        try:
            os.write(keyboard, b"y\ny\n")
            done = subprocess.run(
                ["bash", "-c", "\n".join([*self.kept, mine])],
                cwd=ROOT if mine.startswith("just") else self.directory,
                env=environment,
                stdin=terminal,
                capture_output=True,
                text=True,
                timeout=timeout_secs,
                check=False,
            )
        finally:
            os.close(terminal)
            os.close(keyboard)
        answer = Answer(mine, done.returncode, done.stdout, done.stderr)
        self.answers.append(answer)
        return answer

    def last(self, program: str) -> Answer:
        """The newest answer to a command that starts with these words."""
        return next(a for a in reversed(self.answers) if a.line.startswith(program))
