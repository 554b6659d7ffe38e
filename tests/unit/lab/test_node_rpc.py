"""The embedded node's RPC over HTTP, the lab's client of it, and the faucet on top."""

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lnlab.actors.faucet import (
    FAUCET_SCRIPT,
    FILE_NAME,
    SPLIT_COUNT,
    SPLIT_SATS,
    Faucet,
    FaucetError,
    Payment,
    asset_id_of,
)
from lnlab.nodes.record import POLICY_ASSET
from lnlab.nodes.rpc import NodeRpc, NodeRpcError, NodeUnreachableError, RpcCode, to_sats

from .conftest import PASSWORD, USER, ServedChain, script_of

SCRIPT = script_of(1)
NO_HASH = "0" * 64


async def outputs_of(served: ServedChain, txid: str, count: int) -> list[tuple[str, str, int]]:
    """Return (script hex, asset, value) of the first ``count`` outputs, unspent or None."""
    found = [await served.rpc.call("gettxout", txid, vout) for vout in range(count)]
    return [(out["scriptPubKey"]["hex"], out["asset"], to_sats(out["value"])) for out in found]


async def test_chain_queries_agree(served: ServedChain) -> None:
    """Height, hashes, headers and blocks tell the same chain."""
    info = await served.rpc.call("getblockchaininfo")
    best = await served.rpc.call("getbestblockhash")
    assert (info["chain"], info["blocks"]) == ("liquid-regtest", 2)
    assert info["initialblockdownload"] is False
    assert await served.rpc.call("getblockcount") == 2
    assert await served.rpc.call("getblockhash", 2) == best == info["bestblockhash"]
    header = await served.rpc.call("getblockheader", best)
    assert header["previousblockhash"] == await served.rpc.call("getblockhash", 1)
    assert (header["height"], header["confirmations"]) == (2, 1)
    raw = bytes.fromhex(await served.rpc.call("getblockheader", best, False))
    assert raw == served.chain.header(2)
    assert raw[36:68][::-1].hex() == header["merkleroot"]
    block = await served.rpc.call("getblock", best)
    assert block["tx"] == served.chain.block_txids(best)


@pytest.mark.parametrize(
    ("method", "params", "code", "reason"),
    [
        ("getblockhash", [99], -8, "Block height out of range"),
        ("getblockhash", ["x"], -1, "JSON value is not an integer as expected"),
        ("getblockheader", [NO_HASH], -5, "Block not found"),
        ("getblockheader", ["zz"], -8, "hash must be of length 64 (not 2, for 'zz')"),
        ("invalidateblock", [NO_HASH], -5, "Block not found"),
        (
            "getrawtransaction",
            [NO_HASH],
            -5,
            "No such mempool or blockchain transaction. "
            "Use gettransaction for wallet transactions.",
        ),
        (
            "sendrawtransaction",
            ["00"],
            -22,
            "TX decode failed. Make sure the tx has at least one input.",
        ),
        (
            "sendrawtransaction",
            ["zz"],
            -22,
            "TX decode failed. Make sure the tx has at least one input.",
        ),
        (
            "testmempoolaccept",
            [["00"]],
            -22,
            "TX decode failed: 00 Make sure the tx has at least one input.",
        ),
        ("testmempoolaccept", [[]], -8, "Array must contain between 1 and 25 transactions."),
        ("generatetoaddress", [1, "foo"], -5, "Error: Invalid address"),
        ("generatetodescriptor", [1, "raw(zz)"], -5, "Raw script is not hex"),
        ("nosuch", [], -32601, "Method not found"),
    ],
)
async def test_error_codes_are_elementsd_s(
    served: ServedChain, method: str, params: list[Any], code: int, reason: str
) -> None:
    """Codes and texts are those of elementsd 23.3.3, where these calls were tried."""
    with pytest.raises(NodeRpcError) as failure:
        await served.rpc.call(method, *params)
    assert (failure.value.code, failure.value.reason) == (code, reason)


async def test_transaction_from_mempool_to_block(served: ServedChain) -> None:
    """A sent transaction is in the mempool, then in a block, and its outputs can be looked up."""
    txid = await served.pay(SCRIPT, 4321)
    assert await served.rpc.call("getrawmempool") == [txid]
    raw = await served.rpc.call("getrawtransaction", txid)
    assert await served.rpc.call("sendrawtransaction", raw) == txid
    assert (await served.rpc.call("gettxout", txid, 0))["confirmations"] == 0
    assert await served.rpc.call("gettxout", txid, 0, False) is None
    (block,) = await served.rpc.call("generatetodescriptor", 1, "raw(6a)")
    place = await served.rpc.call("getrawtransaction", txid, 1)
    assert (place["blockhash"], place["confirmations"], place["hex"]) == (block, 1, raw)
    output = await served.rpc.call("gettxout", txid, 0)
    assert (to_sats(output["value"]), output["asset"]) == (4321, POLICY_ASSET)
    with pytest.raises(NodeRpcError) as failure:
        await served.rpc.call("sendrawtransaction", raw)
    assert failure.value.code == RpcCode.ALREADY_IN_CHAIN


async def test_mempool_verdicts(served: ServedChain) -> None:
    """A transaction is allowed with size and fee, or refused with a reason, or over the fee cap."""
    txid = await served.pay(SCRIPT)
    raw = await served.rpc.call("getrawtransaction", txid)
    served.chain.drop_mempool(txid)
    (verdict,) = await served.rpc.call("testmempoolaccept", [raw])
    assert verdict["allowed"] is True
    fee_sats = to_sats(verdict["fees"]["base"])
    assert fee_sats >= verdict["vsize"]
    (capped,) = await served.rpc.call("testmempoolaccept", [raw], "0.00000001")
    assert (capped["allowed"], capped["reject-reason"]) == (False, "max-fee-exceeded")
    with pytest.raises(NodeRpcError) as failure:
        await served.rpc.call("sendrawtransaction", raw, "0.00000001")
    assert failure.value.code == RpcCode.TRANSACTION_ERROR
    assert await served.rpc.call("sendrawtransaction", raw) == txid
    (again,) = await served.rpc.call("testmempoolaccept", [raw])
    assert again["reject-reason"] == "txn-already-in-mempool"
    served.chain.generate()
    spent = (await served.rpc.call("testmempoolaccept", [raw]))[0]
    assert spent["reject-reason"] == "txn-already-known"


async def test_missing_inputs_have_their_own_code(served: ServedChain) -> None:
    """Spending what is not there is code -25, and `missing-inputs` in a verdict."""
    txid = await served.pay(SCRIPT)
    raw = bytearray.fromhex(await served.rpc.call("getrawtransaction", txid))
    served.chain.drop_mempool(txid)
    raw[6] ^= 1  # the first byte of the first input's txid
    with pytest.raises(NodeRpcError) as failure:
        await served.rpc.call("sendrawtransaction", raw.hex())
    assert failure.value.code == RpcCode.TRANSACTION_ERROR
    assert failure.value.reason == "bad-txns-inputs-missingorspent"
    (verdict,) = await served.rpc.call("testmempoolaccept", [raw.hex()])
    assert verdict["reject-reason"] == "missing-inputs"


async def test_invalidate_and_reconsider(served: ServedChain) -> None:
    """An invalidated block leaves the chain and comes back when reconsidered."""
    (block,) = await served.rpc.call("generatetodescriptor", 1, "raw(6a)")
    await served.rpc.call("invalidateblock", block)
    assert await served.rpc.call("getblockcount") == 2
    await served.rpc.call("reconsiderblock", block)
    assert await served.rpc.call("getbestblockhash") == block


async def test_generate_to_address_pays_its_script(served: ServedChain) -> None:
    """The block's fees go to the address that was asked for."""
    await served.pay(SCRIPT)
    address = "ert1qzyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg38u7fyc"
    (block,) = await served.rpc.call("generatetoaddress", 1, address)
    coinbase = served.chain.block_txids(block)[0]
    output = await served.rpc.call("gettxout", coinbase, 0)
    assert output["scriptPubKey"]["hex"] == "0014" + "11" * 20
    assert output["coinbase"] is True


async def test_fee_estimate_needs_blocks(served: ServedChain) -> None:
    """There is an error list until a few blocks held transactions, then a rate over the floor."""
    chain = served.chain
    assert "errors" in await served.rpc.call("estimatesmartfee", 6)
    for _ in range(3):
        await served.pay(SCRIPT)
        chain.generate()
    assert (await served.rpc.call("estimatesmartfee", 6))["feerate"] * 10**8 >= 100


async def test_stop_is_passed_on(served: ServedChain) -> None:
    """The stop call reaches whoever runs the server."""
    assert await served.rpc.call("stop") == "Elements Core stopping"
    assert served.stop_requests == ["stop"]


async def test_array_and_named_parameters(served: ServedChain) -> None:
    """An array is answered in order with status 200; parameters may be named."""
    calls = [
        {"id": 1, "method": "getblockhash", "params": {"height": 1}},
        {"id": 2, "method": "getblockhash", "params": [99]},
    ]
    auth = {"Authorization": aiohttp.encode_basic_auth(USER, PASSWORD)}
    async with (
        aiohttp.ClientSession(headers=auth) as session,
        session.post(served.rpc_url, data=json.dumps(calls)) as response,
    ):
        assert response.status == 200
        first, second = await response.json()
    assert (first["id"], first["result"]) == (1, served.chain.block_hash(1))
    assert (second["id"], second["error"]["code"]) == (2, -8)


async def test_wrong_password_is_unreachable(served: ServedChain) -> None:
    """Wrong credentials are no RPC answer at all."""
    async with NodeRpc(served.rpc_url, USER, "guess") as rpc:
        with pytest.raises(NodeUnreachableError, match="HTTP 401"):
            await rpc.call("getblockcount")


async def test_nobody_listening_is_unreachable(unused_tcp_port: int) -> None:
    """A refused connection names the address."""
    async with NodeRpc(f"http://127.0.0.1:{unused_tcp_port}/", USER, PASSWORD) as rpc:
        with pytest.raises(NodeUnreachableError, match=str(unused_tcp_port)):
            await rpc.call("getblockcount")


def test_amounts_are_exact() -> None:
    """Whole units convert to satoshi without rounding; fractions of a satoshi are refused."""
    assert to_sats(Decimal("0.00000029")) == 29
    with pytest.raises(ValueError, match="satoshi"):
        to_sats(Decimal("0.000000001"))


async def test_faucet_splits_the_free_coins(served: ServedChain) -> None:
    """After preparation there are small coins and the rest, all found by a scan."""
    scan = await served.rpc.call("scantxoutset", "start", [f"raw({FAUCET_SCRIPT.hex()})"])
    values = sorted(to_sats(coin["amount"]) for coin in scan["unspents"])
    assert values[:-1] == [SPLIT_SATS] * SPLIT_COUNT
    assert 20_000_000 * 10**8 < sum(values) < 21_000_000 * 10**8


async def test_faucet_pays_several_outputs_at_once(served: ServedChain) -> None:
    """An issued asset and L-BTC go to two scripts in one transaction, in the order asked."""
    asset = await served.faucet.issue("DEMO", 1_000_000)
    assert await served.faucet.issue("DEMO", 5) == asset == served.faucet.assets()["DEMO"]
    served.chain.generate()
    txid = await served.faucet.pay(
        [Payment(SCRIPT, asset, 70), Payment(script_of(2), POLICY_ASSET, 900)]
    )
    assert await outputs_of(served, txid, 2) == [
        (SCRIPT.hex(), asset, 70),
        (script_of(2).hex(), POLICY_ASSET, 900),
    ]


async def test_faucet_survives_loss_of_its_state(served: ServedChain, tmp_path: Path) -> None:
    """Without its file the faucet finds its coins on the chain, and not those already spent."""
    await served.pay(SCRIPT)
    (tmp_path / FILE_NAME).unlink()
    for _ in range(SPLIT_COUNT):
        await Faucet(served.rpc, tmp_path).fund(SCRIPT, [(POLICY_ASSET, 1000)])
    assert len(await served.rpc.call("getrawmempool")) == SPLIT_COUNT + 1


async def test_faucet_survives_a_reorg(served: ServedChain, tmp_path: Path) -> None:
    """Coins that a reorg took away are dropped, and the payment is made from others."""
    txid = await served.pay(SCRIPT)
    served.chain.drop_mempool(txid)
    state = json.loads((tmp_path / FILE_NAME).read_text())
    gone = [coin for coin in state["coins"] if coin["txid"] == txid]
    (tmp_path / FILE_NAME).write_text(json.dumps({**state, "coins": gone}))
    assert await served.pay(SCRIPT) in await served.rpc.call("getrawmempool")


async def test_concurrent_payments_spend_different_coins(served: ServedChain) -> None:
    """Thirty payments at once all get into the mempool, over two faucets on one directory."""
    other = Faucet(served.rpc, served.faucet.directory)
    payers = [served.faucet, other] * 15
    txids = await asyncio.gather(*(payer.fund(SCRIPT, [(POLICY_ASSET, 600)]) for payer in payers))
    assert sorted(txids) == sorted(await served.rpc.call("getrawmempool"))


async def test_faucet_says_what_it_has(served: ServedChain) -> None:
    """Asking for more than there is tells both amounts, and sends nothing."""
    asset = await served.faucet.issue("DEMO", 50)
    mempool = await served.rpc.call("getrawmempool")
    with pytest.raises(FaucetError, match=f"has 50 of asset {asset}, 51 were asked for"):
        await served.faucet.fund(SCRIPT, [(asset, 51)])
    assert await served.rpc.call("getrawmempool") == mempool


async def test_issuance_over_the_output_limit_is_refused(served: ServedChain) -> None:
    """21 million whole units beside the change would be refused by elementsd, so not tried."""
    with pytest.raises(FaucetError, match="21,000,000"):
        await served.faucet.issue("BIG", 21_000_000 * 10**8)


def test_asset_id_of_a_recorded_issuance() -> None:
    """The id computed for a recorded issuance is the one that elementsd accepted."""
    asset = asset_id_of("6528e01bccdb4fdf495e26e07a98d7d523b0c25954c9f05ef031ff95e57739b0", 199)
    assert asset == "c116d6eacb570b0f4dbf1c83344be695bc2d65f1123f1370de7f87adffe3942c"
