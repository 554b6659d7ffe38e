"""Mempool verdicts with the situation they were given in, for replay on a chain without a lab."""

from typing import Any

from embit.liquid.transaction import LTransaction

from lnlab.lab import Lab
from lnlab.nodes.record import POLICY_ASSET
from lnlab.nodes.rpc import NodeRpcError, to_sats


async def vector(lab: Lab, name: str, raw_hex: str, answer: dict[str, Any]) -> dict[str, Any]:
    """A verdict with the situation it was given in: coins, mempool, tip.

    Source of the form: `tests/vectors/elementsd_mempool.json`. `answer` is `testmempoolaccept`'s.
    """
    rpc = lab.rpc
    coins = []
    for spent in LTransaction.parse(bytes.fromhex(raw_hex)).vin:
        txid = spent.txid.hex()
        try:
            previous = await rpc.call("getrawtransaction", txid, True)
        except NodeRpcError:
            continue  # an unknown coin
        if spent.vout >= len(previous["vout"]):
            continue
        output = previous["vout"][spent.vout]
        confirmations = previous.get("confirmations", 0)
        if confirmations and await rpc.call("gettxout", txid, spent.vout, False) is None:
            continue  # spent in a block
        coins.append(
            {
                "txid": txid,
                "vout": spent.vout,
                "asset": output["asset"],
                "value": to_sats(output["value"]),
                "script_pubkey": output["scriptPubKey"]["hex"],
                "height": (await lab.tip()).height - confirmations + 1 if confirmations else None,
            }
        )
    pool = [await rpc.call("getrawtransaction", txid) for txid in await _pool_in_order(lab)]
    verdict: dict[str, Any] = {"allowed": answer["allowed"]}
    if answer["allowed"]:
        verdict |= {"vsize": answer["vsize"], "fee_sats": to_sats(answer["fees"]["base"])}
    else:
        verdict["reject_reason"] = answer["reject-reason"]
    return {
        "name": name,
        "about": "",
        "tip_height": (await lab.tip()).height,
        "policy_asset": POLICY_ASSET,
        "coins": coins,
        "chain": await _confirmed_already(lab, raw_hex),
        "mempool": pool,
        "tx": raw_hex,
        **verdict,
    }


async def _confirmed_already(lab: Lab, raw_hex: str) -> list[str]:
    """The transaction itself, if it is in a block."""
    txid = LTransaction.parse(bytes.fromhex(raw_hex)).txid().hex()
    try:
        known = await lab.rpc.call("getrawtransaction", txid, True)
    except NodeRpcError:
        return []
    return [raw_hex] if known.get("confirmations") else []


async def _pool_in_order(lab: Lab) -> list[str]:
    """The mempool's txids, parents before children."""
    entries = await lab.rpc.call("getrawmempool", True)
    return sorted(entries, key=lambda txid: (entries[txid]["ancestorcount"], txid))
