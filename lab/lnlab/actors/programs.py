"""Running the project's own command line from the lab, as a user would."""

import asyncio
import sys
from collections.abc import Callable, Mapping


class ProgramError(Exception):
    """A program ended with another exit code than 0; the text holds its last words."""

    def __init__(self, command: str, code: int, output: str) -> None:
        super().__init__(f"`{command}` ended with exit code {code}:\n{output.strip()}")
        self.code = code
        self.output = output


async def run_program(
    *command: str,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    timeout_secs: float = 120.0,
) -> str:
    """Run `lnliquid …` with this interpreter and return what it printed on standard output.

    `on_line` gets each line of standard error as it comes (progress). Raises `ProgramError`. When
    cancelled or late, the program is ended first.
    """
    module, *arguments = command
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    lines: list[str] = []

    async def follow(stream: asyncio.StreamReader) -> None:
        async for line in stream:
            text = line.decode(errors="replace").rstrip()
            lines.append(text)
            if on_line is not None:
                on_line(text)

    try:
        async with asyncio.timeout(timeout_secs):
            output, _ = await asyncio.gather(process.stdout.read(), follow(process.stderr))
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code:
        text = "\n".join([*lines[-20:], output.decode(errors="replace")])
        raise ProgramError(" ".join(command), code, text)
    return output.decode()
