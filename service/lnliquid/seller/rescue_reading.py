"""What a rescue reads from the chain and from Core Lightning, all under one tip."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lnliquid.errors import BackendUnavailable
from lnliquid.liquid import htlc, tx
from lnliquid.liquid.keys import CHANGE, RECEIVE, Keychain
from lnliquid.ports import Chain, HistoryItem, Invoice, SellerLightning
from lnliquid.seller.inventory import GAP, coins_of_script
from lnliquid.seller.invoice_reading import every_invoice
from lnliquid.seller.observe import output_script, read_scripts, witness_script
from lnliquid.store.coins import SeenCoin
from lnliquid.swap import Outpoint, Swap, Tip

Address = tuple[int, int]
"""Branch and index of a wallet address."""

ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class RescuePicture:
    """The wallet's and the HTLCs' share of the chain, and the invoices by swap id.

    `heights` has every transaction that was seen, None for the mempool's. `own` are raw bytes of
    those that spend the wallet's coins or refund an HTLC, parents before children. `refused` says
    which scripts could not be read, and why.
    """

    tip: Tip
    addresses: Mapping[bytes, Address]
    next_indexes: Mapping[int, int]
    coins: Mapping[Address, Sequence[SeenCoin]]
    histories: Mapping[bytes, Sequence[HistoryItem]]
    transactions: Mapping[str, tx.Transaction]
    heights: Mapping[str, int | None]
    own: Mapping[str, bytes]
    refused: Mapping[bytes, str]
    invoices: Mapping[str, Invoice]


async def read_rescue(
    chain: Chain,
    lightning: SellerLightning,
    keys: Keychain,
    swaps: Sequence[Swap],
    known_indexes: Mapping[int, int],
) -> RescuePicture:
    """Read until nothing moved meanwhile.

    `swaps`: every funding that may be on the chain, also several of one swap. `known_indexes`: by
    branch, up to where addresses were certainly given out. Raises `BackendError`.
    """
    for _ in range(ATTEMPTS):
        tip = await chain.tip()
        picture = await _read(tip, chain, lightning, keys, swaps, known_indexes)
        if await chain.tip() == tip:
            return picture
    raise BackendUnavailable(
        "electrum", "blocks came during every reading; run the command again, it changed nothing"
    )


async def _read(
    tip: Tip,
    chain: Chain,
    lightning: SellerLightning,
    keys: Keychain,
    swaps: Sequence[Swap],
    known_indexes: Mapping[int, int],
) -> RescuePicture:
    histories: dict[bytes, Sequence[HistoryItem]] = {}
    transactions: dict[str, tx.Transaction] = {}
    refused: dict[bytes, str] = {}

    async def read(scripts: Iterable[bytes]) -> None:
        found, not_read = await read_scripts(chain, sorted(set(scripts)))
        refused.update(not_read)
        for script, (items, parsed) in found.items():
            histories[script] = items
            transactions.update({i.txid: parsed[i.txid] for i in items})

    addresses: dict[bytes, Address] = {}
    next_indexes = {}
    for branch in (RECEIVE, CHANGE):
        index, end = 0, known_indexes[branch] + GAP
        used = known_indexes[branch]
        while index < end:
            part = await asyncio.to_thread(_scripts, keys, branch, range(index, end))
            addresses.update(part)
            await read(part)
            used = max([used, *(a[1] + 1 for s, a in part.items() if histories.get(s))])
            index, end = end, used + GAP
        next_indexes[branch] = used
    await read(output_script(swap) for swap in swaps)
    heights = {i.txid: i.height for items in histories.values() for i in items}
    own = _own(transactions, heights, addresses, swaps)
    raws = await chain.transactions(own) if own else {}
    missing = [txid for txid in own if txid not in raws]
    if missing:
        raise BackendUnavailable("electrum", f"it names transaction {missing[0]} and has it not")
    return RescuePicture(
        tip=tip,
        addresses=addresses,
        next_indexes=next_indexes,
        coins={
            address: coins_of_script(script, histories[script], transactions)
            for script, address in addresses.items()
            if histories.get(script)
        },
        histories=histories,
        transactions=transactions,
        heights=heights,
        own={txid: raws[txid] for txid in own},
        refused=refused,
        invoices=await every_invoice(lightning, sorted({s.swap_id for s in swaps})),
    )


def _scripts(keys: Keychain, branch: int, indexes: range) -> dict[bytes, Address]:
    return {htlc.p2wpkh_script(keys.wallet_key(branch, i).key_hash): (branch, i) for i in indexes}


def _own(
    transactions: Mapping[str, tx.Transaction],
    heights: Mapping[str, int | None],
    addresses: Mapping[bytes, Address],
    swaps: Sequence[Swap],
) -> list[str]:
    """Transactions that only our keys can have signed, parents before children.

    A funding of these swaps is one, also when its inputs are of addresses that were not read.
    """
    fundings = {s.funding_txid for s in swaps}
    wallet = {
        Outpoint(txid, vout)
        for txid, transaction in transactions.items()
        for vout, output in enumerate(transaction.outputs)
        if output.script_pubkey in addresses
    }
    hashes = {witness_script(s): s.payment_hash for s in swaps}

    def is_own(item: tx.TxInput) -> bool:
        if item.outpoint in wallet:
            return True
        script = item.witness[-1] if item.witness else b""
        if script not in hashes:
            return False
        read = htlc.read_spend_witness(item.witness, script, hashes[script])
        return read is not None and read.kind is htlc.SpendKind.REFUND

    found = {
        txid
        for txid, t in transactions.items()
        if txid in fundings or any(is_own(i) for i in t.inputs)
    }
    return in_order({txid: transactions[txid] for txid in found}, heights)


def in_order(
    transactions: Mapping[str, tx.Transaction], heights: Mapping[str, int | None]
) -> list[str]:
    """These txids, lowest blocks first, parents before children."""
    last = 1 + max((h for h in heights.values() if h is not None), default=0)
    todo = sorted(transactions, key=lambda t: (heights.get(t) or last, t))
    order: dict[str, None] = {}
    while todo:
        rest = []
        for txid in todo:
            parents = {i.outpoint.txid for i in transactions[txid].inputs}
            if any(p in transactions and p not in order for p in parents):
                rest.append(txid)
            else:
                order[txid] = None
        todo = rest
    return list(order)
