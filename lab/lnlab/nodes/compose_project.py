"""A lab's compose project: its name, its variables, and `docker compose` run with them.

``DIR/compose.json`` holds them from before the first container starts until the lab is wiped, so
that a lab can be ended whatever happened to the program that started it.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from lnlab.nodes.record import write_json

FILE_NAME = "compose.json"
COMPOSE_DIRECTORY = Path(__file__).parents[3] / "deploy" / "compose"
DOWN_GRACE_SECS = 20
DOWN_TIMEOUT_SECS = 120.0
END_GRACE_SECS = 10.0
COMMAND_TIMEOUT_SECS = 900.0
"""Of one `docker compose`: it may pull or build an image."""


class ComposeError(Exception):
    """`docker compose` failed, or there is none; the text says what was asked and what it said."""


def project_name(directory: Path) -> str:
    """Return the project's name: of this directory, and of no other lab on the machine."""
    return "lnlab-" + hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:10]


@dataclass(frozen=True)
class Project:
    """One lab's project. ``variables`` are those of ``deploy/compose/compose.yaml``."""

    name: str
    directory: str
    variables: dict[str, str]

    @classmethod
    def load(cls, directory: Path) -> Self | None:
        """Return the project of the lab in ``directory``, None when it never had one."""
        try:
            return cls(**json.loads((directory / FILE_NAME).read_text()))
        except FileNotFoundError:
            return None

    def save(self) -> None:
        """Write ``compose.json``."""
        write_json(Path(self.directory) / FILE_NAME, asdict(self))

    async def run(self, *arguments: str) -> str:
        """Run `docker compose …` on the project and return its standard output.

        Raises ComposeError when it fails. When cancelled it is ended first.
        """
        command = self._command(arguments)
        process = await asyncio.create_subprocess_exec(
            *command,
            env=self._environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for the lab, which then ends it
        )
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_SECS):
                output, errors = await process.communicate()
        finally:
            await _end(process)
        if process.returncode:
            raise ComposeError(_said(arguments, errors.decode(errors="replace")))
        return output.decode(errors="replace")

    def down(self) -> None:
        """Stop and remove containers, network and anonymous volumes; the data directories stay.

        Doing it again does nothing. Not to be interrupted: it runs in a session of its own.
        """
        arguments = (*("down", "--volumes", "--remove-orphans", "--timeout", str(DOWN_GRACE_SECS)),)
        done = subprocess.run(
            self._command(arguments),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
            timeout=DOWN_TIMEOUT_SECS,
            check=False,
        )
        if done.returncode:
            raise ComposeError(_said(arguments, done.stderr))

    def _command(self, arguments: Sequence[str]) -> list[str]:
        docker = shutil.which("docker")
        if docker is None:
            raise ComposeError("not found on PATH: docker (nodes `compose` need it with Compose 2)")
        place = str(COMPOSE_DIRECTORY)
        return [
            *(docker, "compose", "--project-name", self.name, "--project-directory", place),
            *("--file", str(COMPOSE_DIRECTORY / "compose.yaml"), "--progress", "plain"),
            *arguments,
        ]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.variables}


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a `docker compose`: it is asked first, so that the engine is not left half way."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.communicate(), END_GRACE_SECS)


def _said(arguments: Sequence[str], errors: str) -> str:
    last = "\n".join(errors.strip().splitlines()[-15:])
    return f"`docker compose {' '.join(arguments)}` failed:\n{last}"
