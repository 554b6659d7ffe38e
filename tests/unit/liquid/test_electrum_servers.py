"""Several Electrum servers in order of preference, and servers behind TLS."""

import asyncio
import datetime
import hashlib
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lnlab.servers import close_server
from lnlab.wait import wait_for
from lnliquid.domain.errors import BackendUnavailable
from lnliquid.liquid import electrum_connection
from lnliquid.liquid.electrum import ElectrumChain

from .test_electrum_client import FakeServer


@asynccontextmanager
async def following(*urls: str) -> AsyncIterator[ElectrumChain]:
    """A client of these servers, started."""
    chain = ElectrumChain(",".join(urls), deadline_secs=2)
    await chain.start()
    try:
        yield chain
    finally:
        await chain.close()


@asynccontextmanager
async def running(*servers: FakeServer) -> AsyncIterator[None]:
    """These servers, until they are closed at the end."""
    for server in servers:
        await server.start()
    try:
        yield
    finally:
        for server in servers:
            await server.close()


async def test_the_first_that_answers_serves() -> None:
    """One that is away is passed over; both are named while none answers."""
    away, there = FakeServer(), FakeServer()
    async with running(away, there):
        pass
    async with following(away.url, there.url) as chain:
        with pytest.raises(BackendUnavailable) as failed:
            await chain.wait_connected(0.5)
        assert away.url in str(failed.value)
        assert there.url in str(failed.value)
        await there.start(there.port)
        await chain.wait_connected(5)
        assert (await chain.tip()).height == 7
        await there.close()


async def test_a_lost_server_is_replaced_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is watched is subscribed there; the next connection begins with the preferred one."""
    monkeypatch.setattr(electrum_connection, "MAX_DELAY_SECS", 0.0)  # any connection has lasted
    first, second = FakeServer(), FakeServer()
    script = b"\x00\x14" + bytes(20)
    async with running(first, second), following(first.url, second.url) as chain:
        await chain.wait_connected(5)
        await chain.watch([script])
        assert second.clients == 0
        await first.close()
        await wait_for(lambda: second.count("blockchain.scripthash.subscribe") == 1)
        await first.start(first.port)
        second.drop_clients()
        await wait_for(lambda: first.clients == 1)
        await chain.wait_connected(5)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def fingerprint(certificate: Path) -> str:
    """Its SHA256, hex."""
    der = x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(
        serialization.Encoding.DER
    )
    return hashlib.sha256(der).hexdigest()


@asynccontextmanager
async def tls_listener(server: FakeServer, certificate: Path) -> AsyncIterator[str]:
    """Host and port of a TLS listener in front of the server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pump(reader, back_writer), pump(back_reader, writer))

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        await close_server(listener)
        server.drop_clients()


async def test_a_pinned_certificate_is_trusted(certificate: Path) -> None:
    """Self-signed as it is; calls and notifications go through."""
    server = FakeServer()
    async with (
        running(server),
        tls_listener(server, certificate) as place,
        following(f"ssl://{place}?fingerprint={fingerprint(certificate)}") as chain,
    ):
        await chain.wait_connected(5)
        assert (await chain.tip()).height == 7


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", r"certificate not trusted: self.signed certificate.*\?fingerprint="),
        (f"?fingerprint={'00' * 32}", "certificate has the fingerprint [0-9a-f]{64}, not 0000"),
    ],
)
async def test_another_certificate_is_refused(certificate: Path, query: str, reason: str) -> None:
    """Nothing is asked of such a server."""
    server = FakeServer()
    async with (
        running(server),
        tls_listener(server, certificate) as place,
        following(f"ssl://{place}{query}") as chain,
    ):
        with pytest.raises(BackendUnavailable, match=reason):
            await chain.wait_connected(1)
        assert server.requests == []


async def test_a_trusted_authority_is_enough(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a pin the system's trust store decides, here one with this certificate in it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = FakeServer()
    async with (
        running(server),
        tls_listener(server, certificate) as place,
        following(f"ssl://{place}") as chain,
    ):
        await chain.wait_connected(5)
