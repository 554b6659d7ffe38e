"""The image and the compose file for operators: sale, crash and refund in a hardened container.

Needs a Docker engine with Compose, and the image that `deploy/Dockerfile` starts from.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from docker.errors import ImageNotFound
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnlab.actors.buyer import Buyer
from lnlab.actors.hand_buyer import HandBuyer
from lnlab.lab import Kind, Lab
from lnlab.nodes.compose_containers import engine
from lnlab.nodes.compose_project import ComposeError
from lnlab.scenarios.refund import refund
from lnlab.scenarios.sale import sale
from lnlab.scenarios.steps import CLAIMED, require_spends, until_final, until_state
from lnlab.wait import wait_for

from .image_daemon import DEPLOY, IMAGE, SERVICE, Deployment, ImageDaemon, free_port

ROOT = DEPLOY.parent
BASE = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)[0]
BUILD_SECS = 600
SIZE_LIMIT_BYTES = 150_000_000
UID = 10001


def missing() -> str | None:
    """Why nothing of this can run here, None if it can."""
    if shutil.which("docker") is None:
        return "no docker on PATH"
    try:
        client = engine()
    except ComposeError as error:
        return str(error)
    try:
        client.images.get(BASE)
    except ImageNotFound:
        return f"no image {BASE} on this machine"
    finally:
        client.close()
    if subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    ).returncode:
        return "no docker compose"
    return None


WHY_NOT = missing()
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(BUILD_SECS),  # the first build fetches every package
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """The Docker engine."""
    made = engine()
    yield made
    made.close()


@pytest.fixture(scope="module")
def image(client: Any) -> Iterator[Any]:
    """The image, built from this tree; the layers stay in the engine's build cache."""
    arguments = {"VERSION": "1.2.3", "REVISION": "f00d"}
    options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    built = subprocess.run(
        ["docker", "build", *options, f"--tag={IMAGE}", "--file=deploy/Dockerfile", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECS,
    )
    assert built.returncode == 0, built.stderr
    yield client.images.get(IMAGE)
    client.images.remove(IMAGE, force=True)


@pytest.fixture(scope="module")
def lab_kind() -> Kind:
    """Embedded nodes: what is tested here is the container."""
    return "embedded"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(lab: Lab, image: Any) -> AsyncIterator[ImageDaemon]:
    """A funded daemon in a container; the audit is exact at the end, and nothing stays behind."""
    del image
    project = Deployment(lab.directory)
    try:
        made = await ImageDaemon.create(lab, coins=4)
        assert isinstance(made, ImageDaemon)
        async with made:
            yield made
            made.check_log()
            report = await made.deployment.run_in("lnliquid", "audit", "--json")
            assert json.loads(report)["exact"], report
        made.deployment.close()
    finally:
        await project.remove()
        left = project.left()
        project.close()
    assert left == []


async def test_what_the_image_is(client: Any, image: Any) -> None:
    """Small, labelled, not root, with a health check and a stop signal, and without build tools."""
    added = image.attrs["Size"] - client.images.get(BASE).attrs["Size"]
    assert 0 < added < SIZE_LIMIT_BYTES, f"{added} bytes over {BASE}"
    config = image.attrs["Config"]
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    assert (labels["version"], labels["revision"]) == ("1.2.3", "f00d")
    assert config["User"] == f"{UID}:{UID}"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][-1] == "lnliquid.cli.health"
    assert not config.get("Volumes"), "a volume without a name dies with its container"
    script = (
        "which pip pip3 gcc cc make ld; python -m pip; "
        "find / -xdev -name pip -path '*-packages*' 2>/dev/null; "
        "find /opt/lnliquid -name tests -o -name lnlab -o ! -user root; true"
    )
    said = client.containers.run(IMAGE, ["-c", script], entrypoint="sh", remove=True, stderr=True)
    assert said.decode().split("\n") == ["/opt/lnliquid/bin/python: No module named pip", ""]


async def test_every_module_is_compiled(client: Any, image: Any) -> None:
    """On a read-only disk nothing else would be cached: a start would compile it all again."""
    del image
    script = (
        "import importlib.util, sys, lnliquid.cli, lnliquid.daemon\n"
        "lnliquid.cli.command_line()\n"
        "files = [m.__spec__ for m in list(sys.modules.values()) if getattr(m, '__spec__', None)]\n"
        "import pathlib\n"
        "print([s.name for s in files if s.origin and s.origin.endswith('.py')"
        " and not (s.cached and pathlib.Path(s.cached).exists())])\n"
    )
    said = client.containers.run(IMAGE, ["-c", script], entrypoint="python", remove=True)
    assert said.decode().strip() == "[]"


async def test_hardened(daemon: ImageDaemon) -> None:
    """No root, no capability, no way to gain one, nothing writable but the volumes and /tmp."""
    deployment = daemon.deployment
    status = await deployment.run_in("cat", "/proc/1/status", "/proc/self/status")
    fields = re.findall(r"^(Uid|CapEff|CapBnd|NoNewPrivs):\s+(\w+)", status, re.MULTILINE)
    none = "0" * 16
    assert sorted(set(fields)) == [
        ("CapBnd", none), ("CapEff", none), ("NoNewPrivs", "1"), ("Uid", str(UID)),
    ]  # fmt: skip
    for place in ("/x", "/opt/lnliquid/x", "/keys/x", "/lightning/x"):
        assert "Read-only file system" in await deployment.run_in("touch", place, check=False)
    assert await deployment.run_in(
        "find", "/data", "/rescue", "/keys", "!", "-user", str(UID)
    ) == ""  # fmt: skip
    modes = await deployment.run_in(
        "stat", "-c", "%a", "/data", "/keys", "/rescue", "/data/swaps.sqlite", "/keys/mnemonic"
    )
    assert modes.split() == ["700", "700", "700", "600", "600"]
    host = deployment.container.attrs["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["Memory"] == host["MemorySwap"] > 0
    assert host["PidsLimit"] > 0
    assert host["NanoCpus"] > 0
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "10"}
    assert not host["PortBindings"]


async def test_healthy(daemon: ImageDaemon) -> None:
    """Docker's own health check says so, and readiness can be asked for."""
    await wait_for(
        lambda: daemon.deployment.health() == "healthy",
        timeout_secs=30,
        message="the container is healthy",
        interval_secs=0.2,
    )
    said = await daemon.deployment.run_in("lnliquid", "health", "--ready")
    assert said.startswith("ready")


async def test_sale(daemon: ImageDaemon) -> None:
    """A buyer with nothing but the command line ends up with the asset; the operator sees it."""
    done = await sale(daemon, Buyer(daemon, "image"), 1_000, say=print)
    listed = json.loads(await daemon.deployment.run_in("lnliquid", "swaps", "--json"))
    assert listed["swaps"][0]["swap"]["swap_id"] == done.swap_id
    # The daemon's status holds its version, which an image that only copied it would not know.
    assert done.swap_id in await daemon.deployment.run_in("lnliquid", "swaps")
    assert "internal error" not in daemon.log.read_text()


async def test_killed_in_the_middle(daemon: ImageDaemon) -> None:
    """SIGKILL with the funding unconfirmed, and again when it is paid: one funding, one claim."""
    lab, buyer = daemon.lab, HandBuyer(daemon)
    request = buyer.request(request_id=str(uuid.uuid4()))
    before = set(await lab.rpc.call("getrawmempool"))
    creating = asyncio.create_task(buyer.create(request))

    async def sent() -> bool:
        return bool(set(await lab.rpc.call("getrawmempool")) - before)

    await lab.wait_for(sent, timeout_secs=30, message="the funding is sent")
    await daemon.kill()
    with pytest.raises(grpc.aio.AioRpcError):
        await creating
    assert not daemon.is_running()
    await daemon.start()
    await lab.mine()
    swap = await buyer.create(request)
    swap = await until_state(daemon, swap.swap_id, pb.SWAP_STATE_FUNDED, invoice=True)
    await daemon.kill()
    preimage = await buyer.pay(swap)
    await daemon.start()
    await buyer.send(buyer.claim(swap, preimage))
    await until_final(daemon, swap.swap_id, CLAIMED)
    await require_spends(daemon, swap, "claim", "claim")


async def test_refund(daemon: ImageDaemon) -> None:
    """Never paid: refunded from the lock height on, not before; all is in the inventory again."""
    await refund(daemon, print)


async def test_backup_and_restore(daemon: ImageDaemon) -> None:
    """The compose file's backup is private; restored and rescued, it misses no swap made since."""
    deployment = daemon.deployment

    async def tool(service: str, entrypoint: str, *arguments: str) -> str:
        return await deployment.compose(
            "run", "--rm", "--no-deps", f"--entrypoint={entrypoint}", service, *arguments
        )

    said = await deployment.compose("run", "--rm", "backup")
    wrote = re.findall(
        r"^wrote (/backups/swaps-\w+\.sqlite), \d+ bytes, checked: (\d+) swaps", said
    )
    assert wrote, said
    path, swaps = wrote[0]
    listed = json.loads(await deployment.run_in("lnliquid", "swaps", "--json"))
    assert int(swaps) == len(listed["swaps"]) > 0
    assert (await tool("backup", "stat", "-c", "%a %u", path)).split() == ["600", str(UID)]
    younger = await HandBuyer(daemon).order()
    # From here on as in deploy/README.md.
    await daemon.stop()
    await tool("backup", "sh", "-c", "mkdir /data/old && mv /data/swaps.sqlite* /data/old/")
    await tool(SERVICE, "cp", "/rescue/swaps.rescue", "/data/old/")
    await tool("backup", "install", "-m", "0600", path, "/data/swaps.sqlite")
    await deployment.compose("run", "--rm", "--no-deps", SERVICE, "rescue")
    await daemon.start()
    again = await until_state(daemon, younger.swap_id, pb.SWAP_STATE_FUNDED, invoice=True)
    assert again.bolt11 == younger.bolt11


async def test_stop_drains(daemon: ImageDaemon) -> None:
    """SIGTERM ends it cleanly within the grace period, with a stream open; it starts again."""
    listed = json.loads(await daemon.deployment.run_in("lnliquid", "swaps", "--json"))
    swap_id = listed["swaps"][0]["swap"]["swap_id"]
    stream = daemon.stub().WatchSwap(pb.WatchSwapRequest(swap_id=swap_id))
    await stream.read()
    grace_secs = daemon.deployment.container.attrs["Config"]["StopTimeout"]
    began = time.monotonic()
    await daemon.stop()
    took_secs = time.monotonic() - began
    state = daemon.deployment.container.attrs["State"]
    assert state["ExitCode"] == 0, daemon.log.read_text()[-2_000:]
    assert took_secs < grace_secs / 2, f"{took_secs:.1f} s of {grace_secs} s"
    stream.cancel()
    await daemon.start()


async def test_the_closed_network(client: Any, image: Any, tmp_path: Path) -> None:
    """As it is deployed: reached by its name, no way out, nothing published unless asked for."""
    del image
    port = free_port()
    settings = {
        "network": "liquid-regtest",
        "asset_id": "5a" * 32,
        "price_msat_per_asset_unit": 1_000,
        "electrum_url": "tcp://electrs:50001",
    }
    name = f"lnliquid-test-{os.getpid()}-closed"
    closed = Deployment(tmp_path, name=name)
    published = Deployment(tmp_path, [DEPLOY / "compose.publish.yaml"], name=name)
    (tmp_path / "lightning").mkdir()
    closed.write_environment(tmp_path / "lightning" / "lightning-rpc", settings)
    with (tmp_path / "container.env").open("a") as file:
        file.write(f"PUBLISH=127.0.0.1:{port}\n")
    try:
        await closed.compose("run", "--rm", "init")
        await closed.compose("up", "--detach", "--wait")  # backends are down, and it lives
        bindings = closed.container.attrs["NetworkSettings"]["Ports"].values()
        assert not any(bindings)
        connect = "import socket; print(socket.create_connection(('{}', {}), {}).getpeername())"
        said = await asyncio.to_thread(
            client.containers.run,
            IMAGE,
            ["-c", connect.format("lnliquid", 50051, 10)],
            entrypoint="python",
            network=name,
            remove=True,
        )
        assert said.endswith(b", 50051)\n")
        out = connect.format("198.51.100.1", 80, 1)
        assert "Network is unreachable" in await closed.run_in("python", "-c", out, check=False)
        await published.compose("up", "--detach", "--wait")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        assert "timed out" in await published.run_in("python", "-c", out, check=False)
    finally:
        await published.remove()
        left = closed.left()
        closed.close()
        published.close()
    assert left == []


async def test_the_compose_file_is_clean_as_it_lies_there() -> None:
    """In a fresh checkout too, with env.example named on the command line and no `.env`."""
    done = await asyncio.to_thread(
        subprocess.run,
        ["docker", "compose", "-f", "deploy/compose.yaml", "--env-file", "deploy/env.example",
         "config", "--quiet"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_the_compose_files_are_clean(tmp_path: Path) -> None:
    """`docker compose config` takes them with env.example, without a warning."""
    for name in ("compose.yaml", "compose.publish.yaml"):
        shutil.copy(DEPLOY / name, tmp_path)
    shutil.copy(DEPLOY / "env.example", tmp_path / ".env")
    for extra in (
        {},
        {"COMPOSE_FILE": "compose.yaml:compose.publish.yaml", "PUBLISH": "127.0.0.1:1"},
    ):
        done = await asyncio.to_thread(
            subprocess.run,
            ["docker", "compose", "--profile", "tools", "config", "--quiet"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], **extra},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
