"""Reads what the audit compares: store, chain and invoices, at one moment, and the same again.

Works beside a running daemon, which never stands still for long: what it has not taken in yet, a
claim that came a second ago, would look like a difference. So a reading counts only when neither
store nor tip moved meanwhile, and differences only when they are still there after a while.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from lnliquid.audit.evidence import ChainPicture, SeenTx
from lnliquid.audit.report import Report, audit
from lnliquid.audit.statements import Difference
from lnliquid.domain import htlc
from lnliquid.domain.ports import Chain, SellerLightning
from lnliquid.domain.swap import Tip
from lnliquid.domain.transaction import parse_transaction
from lnliquid.liquid.keys import CHANGE, RECEIVE, Keychain
from lnliquid.store.survey import StoreFacts
from lnliquid.watchers.chain_view import read_scripts
from lnliquid.watchers.invoice_reading import every_invoice
from lnliquid.watchers.observe import output_script
from lnliquid.watchers.wallet import GAP, NEXT_INDEX

AGAIN_SECS = 0.3


class StillMoving(Exception):
    """Store or chain changed during every reading; nothing can be said of them together."""


async def take_audit(
    read_store: Callable[[], Awaitable[StoreFacts]],
    chain: Chain,
    keys: Keychain,
    *,
    settle_secs: float,
    lightning: SellerLightning | None = None,
) -> Report:
    """Audit once; while there are differences, again until `settle_secs` are over.

    Without `lightning` the invoices are left out. Raises `StillMoving` when there was no moment at
    which store and tip stood still, and `BackendError` when a node cannot be read.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settle_secs
    report: Report | None = None
    while True:
        before = await read_store()
        store, damaged = readable(before)
        picture = await read_picture(chain, store, keys)
        invoices = None
        if lightning is not None:
            invoices = await every_invoice(lightning, [s.swap_id for s in before.swaps])
        if picture.tip == await chain.tip() and before == await read_store():
            report = await asyncio.to_thread(
                audit, store, picture, keys.network.policy_asset, invoices
            )
            report = replace(report, differences=(*damaged, *report.differences))
            if report.is_exact:
                return report
        if loop.time() >= deadline:
            break
        await asyncio.sleep(AGAIN_SECS)
    if report is None:
        raise StillMoving(
            f"store or chain moved during every reading of the last {settle_secs:g} s"
        )
    return report


def readable(store: StoreFacts) -> tuple[StoreFacts, tuple[Difference, ...]]:
    """The store without transactions whose bytes are damaged, and a difference for each."""
    damaged = []
    for own in store.own_txs:
        try:
            parse_transaction(own.raw)
        except ValueError:
            damaged.append(own.txid)
    whole = tuple(own for own in store.own_txs if own.txid not in damaged)
    texts = [f"the bytes stored as {txid} are no transaction" for txid in damaged]
    return replace(store, own_txs=whole), tuple(Difference("own tx", text) for text in texts)


async def read_picture(chain: Chain, store: StoreFacts, keys: Keychain) -> ChainPicture:
    """Everything on the chain that touches the wallet's addresses or an HTLC of ours.

    The cost grows with every address that was ever used and every swap that was ever funded.
    """
    tip: Tip = await chain.tip()
    wallet = await asyncio.to_thread(_wallet_scripts, store, keys)
    scripts = wallet | {output_script(s) for s in store.swaps if s.funding_txid}
    for own in store.own_txs:
        if not own.is_living:  # it may have got into a block all the same
            scripts.update(
                o.script_pubkey for o in parse_transaction(own.raw).outputs if not o.is_fee
            )
    found, refused = await read_scripts(chain, sorted(scripts))
    transactions: dict[str, SeenTx] = {}
    for seen in found.values():
        for txid, height in seen.heights.items():
            transactions.setdefault(txid, SeenTx(seen.transactions[txid], height))
    unread = tuple(
        f"the history of {script.hex()} cannot be read: {why}" for script, why in refused.items()
    )
    return ChainPicture(tip, frozenset(wallet), transactions, unread)


def _wallet_scripts(store: StoreFacts, keys: Keychain) -> set[bytes]:
    ends = dict(store.cursors)
    wanted = {(c.coin.branch, c.coin.index) for c in store.coins}
    for branch in (RECEIVE, CHANGE):
        wanted |= {(branch, i) for i in range(ends.get(NEXT_INDEX[branch], 0) + GAP)}
    return {htlc.p2wpkh_script(keys.wallet_key(*address).key_hash) for address in wanted}
