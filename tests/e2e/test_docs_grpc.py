"""Every command of docs/swap/grpc.md, run as it stands, on a lab."""

import asyncio
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from ln_liquid_swap.v1 import swap_pb2
from lnlab.actors.buyer import Buyer
from lnlab.actors.daemon import SellerDaemon
from lnlab.actors.mining import mining
from lnliquid.liquid.address import p2wpkh_address
from lnliquid.liquid.keys import Key
from lnliquid.liquid.networks import REGTEST

IN_LAB = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/swap/grpc.md"
SHIM = Path(__file__).parent / "grpcurl_by_buf.py"
MARK = "@@@"


@dataclass(frozen=True)
class Ran:
    """A command of the page with what came of it. `refused_with` is what its remark says."""

    command: str
    refused_with: str
    code: int
    output: str


def commands() -> list[str]:
    """The commands of the `sh` blocks; a backslash or a here-document joins lines."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        lines: list[str] = []
        ends = ""
        for line in block.splitlines():
            lines.append(line)
            if here := re.search(r"<<(\w+)$", line):
                ends = here[1]
            if not line.endswith("\\") and ends in ("", line):
                found.append("\n".join(lines))
                lines, ends = [], ""
        assert not lines, block
    return found


async def run_page(environment: dict[str, str], directory: Path) -> list[Ran]:
    """All commands in one shell, as somebody who follows the page would."""
    page = commands()
    script = "\n".join(f"{command}\necho {MARK}$?" for command in page)
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        f"exec 2>&1\n{script}",
        cwd=directory,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(200):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    parts = re.split(rf"{MARK}(\d+)\n", output.decode())
    results = list(zip(parts[::2], parts[1::2], strict=False))
    assert len(results) == len(page), output.decode()
    return [
        Ran(
            command,
            remark[1] if (remark := re.search(r" # (.+)$", command)) else "",
            int(code),
            text,
        )
        for command, (text, code) in zip(page, results, strict=True)
    ]


@IN_LAB
@pytest.mark.timeout(300)  # some thirty programs one after the other
async def test_the_page_calls_every_rpc_and_each_answers_as_it_says(
    daemon: SellerDaemon, tmp_path: Path
) -> None:
    """With grpcurl where it is on PATH, else by buf; refusals have the status that is announced."""
    tools = tmp_path / "bin"
    tools.mkdir()
    if shutil.which("grpcurl") is None:
        shim = tools / "grpcurl"
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SHIM}" "$@"\n')
        shim.chmod(0o700)
    environment = {
        **os.environ,
        **Buyer(daemon, "by-hand").options,
        "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LNLIQUID_OPERATOR": daemon.operator_address,
        "CLAIM_ADDRESS": p2wpkh_address(Key(b"\x21" * 32).key_hash, REGTEST),
    }
    async with mining(daemon.lab, 0.3):
        done = await run_page(environment, tmp_path)
    for ran in done:
        shown = f"{ran.command}\n{ran.output}"
        if not ran.refused_with:
            assert ran.code == 0, shown
        elif ran.refused_with.startswith("exit code "):
            assert ran.code == int(ran.refused_with.removeprefix("exit code ")), shown
        else:
            assert ran.code != 0, shown
            status = ran.refused_with.replace("_", "").lower()
            assert status in ran.output.replace("_", "").replace(" ", "").lower(), shown
    text = "\n".join(ran.command for ran in done)
    for service in swap_pb2.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            assert f"{service.full_name}/{method.name}" in text
    (created,) = (ran for ran in done if ran.command == "cat created.json")
    assert "SWAP_STATE_FUNDED" in created.output
    (watched,) = (ran for ran in done if "SwapService/WatchSwap" in ran.command)
    assert "SWAP_STATE_CREATED" in watched.output
    (verified,) = (ran for ran in done if ran.command.startswith("lnliquid verify"))
    assert " 0 failed, " in verified.output
    daemon.check_log()


def test_the_translation_refuses_what_it_does_not_know() -> None:
    """A flag that is not translated fails, it is not left out."""
    from .grpcurl_by_buf import translate

    with pytest.raises(SystemExit, match="unknown flag -insecure"):
        translate(["-plaintext", "-insecure", "127.0.0.1:1", "list"])
    with pytest.raises(SystemExit, match="-plaintext"):
        translate(["127.0.0.1:1", "list"])
    command, secs = translate(
        ["-plaintext", "-unix", "-max-time", "3", "-d", "{}", "/a.sock", "p.S/M"]
    )
    assert command[1:] == [
        *("curl", "--protocol", "grpc", "--unix-socket", "/a.sock"),
        *("-d", "{}", "http://localhost/p.S/M"),
    ]
    assert secs == 3
