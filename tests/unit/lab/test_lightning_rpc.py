"""The embedded nodes' socket: framing, envelope, parameters, and several requests at once."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from lnlab.nodes.embedded.lightning import LightningNetwork, bolt11
from lnlab.nodes.embedded.lightning.rpc import MalformedError, split_request


class Wire:
    """One connection, bytes in and replies out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def write(self, raw: bytes) -> None:
        self.writer.write(raw)

    def ask(self, ident: Any, method: str, params: Any) -> None:
        request = {"jsonrpc": "2.0", "id": ident, "method": method, "params": params}
        self.write(json.dumps(request).encode())

    async def reply(self) -> dict[str, Any]:
        raw = await asyncio.wait_for(self.reader.readuntil(b"\n\n"), 10)
        reply: dict[str, Any] = json.loads(raw)
        return reply


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[LightningNetwork]:
    network = LightningNetwork(block_height=lambda: 7)
    for name in ("seller", "buyer"):
        network.add_node(name, tmp_path / name)
    network.open_channel("buyer", "seller", 1_000_000)
    await network.start()
    yield network
    await network.stop()


@asynccontextmanager
async def wire_to(network: LightningNetwork, name: str) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_unix_connection(network.nodes[name].socket_path)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_answers_come_as_they_are_ready(network: LightningNetwork) -> None:
    """A wait under way does not hold up later requests of its connection; ids tell them apart."""
    async with wire_to(network, "seller") as wire:
        wire.ask("wait", "waitanyinvoice", {})
        wire.ask(2, "invoice", {"amount_msat": 1000, "label": "a", "description": "d"})
        made = await wire.reply()
        assert made["id"] == 2
        async with wire_to(network, "buyer") as payer:
            payer.ask("pay", "xpay", [made["result"]["bolt11"]])
            paid, waited = await asyncio.gather(payer.reply(), wire.reply())
        assert paid["result"]["successful_parts"] == 1
        assert (waited["id"], waited["result"]["label"]) == ("wait", "a")
        assert list(waited) == ["jsonrpc", "id", "result"]


async def test_requests_may_come_in_pieces_and_together(network: LightningNetwork) -> None:
    """Requests need nothing between them, may be cut anywhere, and hold braces in strings."""
    tricky = {"amount_msat": "1sat", "label": 'q"}{\\ ü', "description": "}]"}
    request = {"jsonrpc": "2.0", "id": 1, "method": "invoice", "params": tricky}
    listing = {"jsonrpc": "2.0", "id": 2, "method": "listinvoices", "params": {}}
    raw = json.dumps(request, ensure_ascii=False).encode() + json.dumps(listing).encode() + b" \n"
    async with wire_to(network, "seller") as wire:
        for i in range(len(raw)):
            wire.write(raw[i : i + 1])
            await wire.writer.drain()
        assert (await wire.reply())["id"] == 1
        listed = (await wire.reply())["result"]["invoices"]
    assert [(i["label"], i["description"]) for i in listed] == [('q"}{\\ ü', "}]")]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    ),
    st.data(),
)
def test_a_cut_request_is_incomplete_and_a_whole_one_is_found(inner: Any, data: Any) -> None:
    """No prefix of an object is taken for an object, and what follows it is left alone."""
    raw = json.dumps({"params": inner}, ensure_ascii=data.draw(st.booleans())).encode()
    cut = data.draw(st.integers(0, len(raw) - 1))
    assert split_request(raw[:cut]) is None
    assert split_request(b" \n" + raw + b"{") == ({"params": inner}, b"{")


@pytest.mark.parametrize("raw", [b"[1]", b"nonsense", b'{"a": }', b'{"a" 1}', b'{"\xff": 1}'])
def test_what_cannot_become_a_request_is_refused(raw: bytes) -> None:
    """Anything but an object, and objects that are not JSON, end the conversation."""
    with pytest.raises(MalformedError):
        split_request(raw)


@pytest.mark.parametrize(
    ("request_", "message", "goes_on"),
    [
        ({"id": 1, "method": "getinfo", "params": {}}, "JSON-RPC message does not", False),
        ({"jsonrpc": "1", "id": 1, "method": "getinfo", "params": {}}, 'jsonrpc: "2.0"', True),
        ({"jsonrpc": "2.0", "method": "getinfo", "params": {}}, "No id", True),
        ({"jsonrpc": "2.0", "id": [1], "method": "getinfo", "params": {}}, "Expected str", True),
    ],
)
async def test_a_bad_envelope_is_refused_without_an_id(
    network: LightningNetwork, request_: dict[str, Any], message: str, goes_on: bool
) -> None:
    """The answer is -32600 with id null; only an object that is no JSON-RPC at all ends it."""
    async with wire_to(network, "seller") as wire:
        wire.write(json.dumps(request_).encode())
        reply = await wire.reply()
        assert reply["id"] is None
        assert reply["error"]["code"] == -32600
        assert reply["error"]["message"].startswith(message)
        if goes_on:
            wire.ask(1, "getinfo", {})
            assert (await wire.reply())["result"]["blockheight"] == 7
        else:
            assert await wire.reader.read() == b""


async def test_a_request_without_method_or_params_is_refused_by_id(
    network: LightningNetwork,
) -> None:
    """Method and params are required, params even when empty."""
    async with wire_to(network, "seller") as wire:
        wire.write(b'{"jsonrpc":"2.0","id":"a","params":{}}{"jsonrpc":"2.0","id":"b","method":"x"}')
        replies = [await wire.reply(), await wire.reply()]
    assert [(r["id"], r["error"]["message"]) for r in replies] == [
        ("a", "No method"),
        ("b", "No params"),
    ]


HEX32 = "ab" * 32
REFUSALS: list[tuple[str, Any, int, str]] = [
    ("getinfo", 5, -32602, "Expected array or object for params"),
    ("getinfo", [1], -32602, "too many parameters: got 1, expected 0"),
    ("invoice", {}, -32602, "missing required parameter: amount_msat"),
    ("invoice", [1000, "l"], -32602, "missing required parameter: description"),
    (
        "invoice",
        [1000, "l", 5],
        -32602,
        "description: should be a string (without \\u): invalid token '5'",
    ),
    (
        "invoice",
        ["x", "l", "d"],
        -32602,
        "amount_msat: should be positive msat or 'any': invalid token '\"x\"'",
    ),
    (
        "invoice",
        [1.5, "l", "d"],
        -32602,
        "amount_msat: should be positive msat or 'any': invalid token '1.5'",
    ),
    (
        "invoice",
        [-1, "l", "d"],
        -32602,
        "amount_msat: should be positive msat or 'any': invalid token '-1'",
    ),
    (
        "invoice",
        [2**64, "l", "d"],
        -32602,
        f"amount_msat: should be positive msat or 'any': invalid token '{2**64}'",
    ),
    (
        "invoice",
        [1, True, "d"],
        -32602,
        "label: should be a string or number: invalid token 'true'",
    ),
    (
        "invoice",
        [1, "l", "d", "soon"],
        -32602,
        "expiry: should be an unsigned 64 bit integer: invalid token '\"soon\"'",
    ),
    (
        "invoice",
        {"amount_msat": 1, "label": "l", "description": "d", "cltv": 2**32},
        -32602,
        f"cltv: should be an integer: invalid token '{2**32}'",
    ),
    (
        "invoice",
        {"amount_msat": 1, "label": "l", "description": "x" * 640},
        -32602,
        "Description greater than 639 bytes invalid (description length 640)",
    ),
    (
        "invoice",
        {"amount_msat": 1, "label": "l", "what": 1},
        -32602,
        "unknown parameter: what, this may be caused by a failure to autodetect key=value-style "
        "parameters. Please try using the -k flag and explicit key=value pairs of parameters.",
    ),
    (
        "listinvoices",
        {"label": "a", "payment_hash": HEX32},
        -32602,
        "Can only specify one of {label}, {invstring}, {payment_hash} or {offer_id}",
    ),
    ("listinvoices", {"start": 1}, -32602, "Can only specify {start} with {index}"),
    ("listinvoices", {"limit": 1}, -32602, "Can only specify {limit} with {index}"),
    (
        "listinvoices",
        {"index": "paid"},
        -32602,
        "index: unknown index: invalid token '\"paid\"'",
    ),
    (
        "listinvoices",
        {"payment_hash": "ab"},
        -32602,
        "payment_hash: should be a 32 byte hex value: invalid token '\"ab\"'",
    ),
    ("listinvoices", {"invstring": "lnert1"}, -32602, "Invalid invstring"),
    ("delinvoice", {"label": "l"}, -32602, "missing required parameter: status"),
    (
        "waitanyinvoice",
        {"lastpay_index": "x"},
        -32602,
        "lastpay_index: should be an unsigned 64 bit integer: invalid token '\"x\"'",
    ),
    (
        "listpays",
        {"status": "lost"},
        -32602,
        "status: should be an invoice status: invalid token '\"lost\"'",
    ),
    ("listpays", {"bolt11": "junk"}, -32602, "Invalid invstring: invalid bech32 string"),
    ("xpay", {}, -32602, "missing required parameter: invstring"),
    ("xpay", {"bolt11": "x"}, -32602, "unknown parameter: bolt11, this may be caused"),
    ("xpay", ["junk", None, "-1"], -32602, "maxfee: should be a millisatoshi amount: invalid"),
    ("pay", {}, -32602, "missing required parameter: bolt11"),
    ("pay", ["x", 1, "label"], -32601, 'Command "pay" is deprecated'),
    ("help", {"command": "nothing"}, -32601, "Unknown command nothing"),
    (
        "listpeerchannels",
        {"id": "02" + HEX32, "channel_id": HEX32},
        -32602,
        "Must not specify more than one of short_channel_id, channel_id or id",
    ),
]


@pytest.mark.parametrize(("method", "params", "code", "message"), REFUSALS)
async def test_bad_parameters_get_lightningds_words(
    network: LightningNetwork, method: str, params: Any, code: int, message: str
) -> None:
    """Wrong, missing and unknown parameters get lightningd's text and change nothing."""
    async with wire_to(network, "seller") as wire:
        wire.ask(1, method, params)
        error = (await wire.reply())["error"]
        assert error["code"] == code
        assert error["message"].startswith(message)
        wire.ask(2, "listinvoices", {})
        assert (await wire.reply())["result"] == {"invoices": []}


async def test_lists_can_be_walked_by_index(network: LightningNetwork) -> None:
    """index, start and limit page through invoices by creation and by last change."""
    async with wire_to(network, "seller") as wire:
        for label in "abc":
            wire.ask(1, "invoice", [1000, label, "d"])
            made = await wire.reply()
        async with wire_to(network, "buyer") as payer:
            payer.ask(1, "pay", [made["result"]["bolt11"]])
            await payer.reply()

        async def labels(params: dict[str, Any]) -> list[str]:
            wire.ask(1, "listinvoices", params)
            return [i["label"] for i in (await wire.reply())["result"]["invoices"]]

        assert await labels({"index": "created", "start": 2}) == ["b", "c"]
        assert await labels({"index": "created", "start": 1, "limit": 2}) == ["a", "b"]
        assert await labels({"index": "updated", "start": 1}) == ["c"]
        assert await labels({"invstring": "LIGHTNING:" + made["result"]["bolt11"].upper()}) == ["c"]


async def test_help_lists_every_command(network: LightningNetwork) -> None:
    """`help` gives name and parameters, optional ones in brackets."""
    async with wire_to(network, "seller") as wire:
        wire.ask(1, "help", {})
        lines = [c["command"] for c in (await wire.reply())["result"]["help"]]
        wire.ask(2, "help", ["delinvoice"])
        one = (await wire.reply())["result"]["help"]
    assert one == [{"command": "delinvoice label status [desconly]"}]
    assert one[0]["command"] in lines
    assert {"getinfo ", "stop "} < set(lines)


def test_an_invoice_with_any_character_changed_is_not_read() -> None:
    """The checksum, the signature or the structure catches every single changed character."""
    text = bolt11.encode(
        PrivateKey(b"\x07" * 32),
        amount_msat=1,
        created_at=1,
        payment_hash=b"\x01" * 32,
        payment_secret=b"\x02" * 32,
        description="d",
        hash_description=True,
        expiry_secs=3600,
        min_final_cltv_blocks=18,
    )
    assert bolt11.decode(text) == bolt11.decode(text.upper())
    for i, letter in enumerate(text):
        changed = text[:i] + ("q" if letter != "q" else "p") + text[i + 1 :]
        with pytest.raises(bolt11.InvoiceError):
            bolt11.decode(changed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Bad bech32 string"),
        ("lnert1", "Bad bech32 string"),
        (bolt11.bech32_encode("ert", bytes(120)), "Prefix 'ert' does not start with ln"),
        (bolt11.bech32_encode("lnxx", bytes(120)), "Unknown chain xx"),
        (bolt11.bech32_encode("lnert1x", bytes(120)), "Invalid amount postfix 'x'"),
        (bolt11.bech32_encode("lnert1p", bytes(120)), "Invalid sub-millisatoshi amount '1p'"),
        (bolt11.bech32_encode("lnert", bytes(50)), "Can't get 35-bit timestamp: truncated"),
        (bolt11.bech32_encode("lnert", bytes(111)), "No valid 'p' field found"),
    ],
)
def test_bad_invoices_are_refused_with_a_reason(text: str, message: str) -> None:
    """Each kind of damage has lightningd's text."""
    with pytest.raises(bolt11.InvoiceError) as refused:
        bolt11.decode(text)
    assert str(refused.value) == message


def test_an_invoice_for_bitcoin_is_not_paid_here() -> None:
    """The network in the prefix must be ours."""
    text = bolt11.bech32_encode("lnbc", bytes(111))
    with pytest.raises(bolt11.InvoiceError, match="Prefix bc is not for liquid-regtest"):
        bolt11.decode(text, only_currency="ert")
