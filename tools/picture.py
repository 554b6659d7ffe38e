"""Records `lnlab demo` on a terminal as a picture for the README: `python -m tools.picture`.

The command runs on a pseudo-terminal, so what is drawn is what a person sees. The picture is an SVG
with the text in it and no font from elsewhere.
"""

import os
import pty
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/images/demo.svg"
COLUMNS = 110

FONT_FACES = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
LONG_ID = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{56}\b")


def record(command: list[str]) -> str:
    """What the command writes to a terminal. Raises `RuntimeError` if it fails."""
    written = bytearray()

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 4096)
        written.extend(data)
        return data

    os.environ["COLUMNS"] = str(COLUMNS)
    if status := pty.spawn(command, read):
        raise RuntimeError(f"{command[0]} ended with {os.waitstatus_to_exitcode(status)}")
    return written.decode().replace("\r\n", "\n")


def draw(title: str, command: str, output: str) -> str:
    """An SVG of a terminal in which the command was typed. Long ids are cut to their beginning."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        for line in LONG_ID.sub(r"\1…", output.strip()).splitlines():
            console.print(Text.from_ansi(line))
        svg = console.export_svg(title=title, theme=MONOKAI)
    svg = re.sub(r"<!--.*?-->\s*", "", FONT_FACES.sub("", svg))
    return svg.replace("Fira Code", "ui-monospace, Menlo, Consolas")


def main() -> int:
    """Record, draw, write. Exit code 0."""
    with tempfile.TemporaryDirectory(prefix="lnlab-") as directory:
        output = record([sys.executable, "-m", "lnlab", "demo", "--dir", f"{directory}/lab"])
        output = output.replace(directory, "").replace("/lab", ".lab")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw("LN→Liquid Swap", "./justw demo", output), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
