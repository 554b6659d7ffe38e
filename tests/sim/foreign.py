"""Transactions that the daemon did not make: of depositors, buyers, and of others with its seed."""

from typing import TYPE_CHECKING

from lnlab.nodes.embedded.txmodel import Tx
from lnliquid.domain import htlc
from lnliquid.domain.swap import InvoiceMark, Outpoint
from lnliquid.liquid import tx_builder

from . import buyers
from .ground import LBTC, OP_TRUE, Deposit
from .rules import Row

if TYPE_CHECKING:
    from .world import World

ELSEWHERE = b"\x00\x14" + bytes(20)
"""Somebody else's address. What comes back to the wallet from a transaction that a reorg can undo
for ever would be a coin that no chain shows and no rival explains."""
FEE_SATS = 2_000


def replace(world: "World", gone: Tx) -> None:
    """Send something else that spends what a transaction, now forgotten, had spent."""
    for deposit in world.ground.deposits:
        if deposit.txid == gone.txid:
            undo(world, deposit)
            return
    deal = next((d for d in world.deals.values() if gone.txid in d.claim_txids), None)
    if deal is not None:
        raw = buyers.claim(deal, world.ground, "both", 520, final=True)
        txid = world.ground.send(raw) if raw else None
        if txid is not None:
            deal.claim_txids.append(txid)
        world.note(f"    … {deal.name} claims anew: {txid is not None}")
        return
    if gone.txid in world.rules.books.sent:
        _spend_otherwise(world, gone)


def undo(world: "World", deposit: Deposit) -> bool:
    """The sender of a deposit that is in no block spends its coins otherwise."""
    world.coverage.deposit("undone by its sender", deposit.txid)
    world.ground.forget(deposit.txid)
    done = world.ground.take_back(deposit) is not None
    world.note(f"    … a deposit is taken back: {done}")
    return done


def _spend_otherwise(world: "World", gone: Tx) -> None:
    """Another wallet with the same seed spends the first coin of a transaction of ours elsewhere.

    Not when a buyer has paid for what it locked, or is paying: that would be a theft.
    """
    for lock in (k for o, k in world.rules.books.locked.items() if o[0] == gone.txid):
        row = world.rules.rows[lock.swap_id]
        deal = world.deals.get(row["request_id"])
        if deal is None or deal.paid or deal.holding_until is not None:
            return
    sent = sweep(world, gone.inputs[0].outpoint)
    world.note(f"    … the coin of an own transaction is swept: {sent}")


def sweep(world: "World", outpoint: tuple[str, int]) -> bool:
    """Take one coin out of the seller's wallet; the bank pays the fee."""
    coin = world.ground.chain.coin(*outpoint)
    path = world.rules.books.wallet.paths.get(coin.script_pubkey) if coin else None
    if coin is None or path is None:
        return False
    bank = world.ground.mint(LBTC, FEE_SATS)
    key = world.keys.wallet_key(*path)
    spends = [
        tx_builder.wallet_spend(Outpoint(*outpoint), coin.value, key),
        tx_builder.Spend(
            Outpoint(bank.txid, 0),
            FEE_SATS,
            tx_builder.SEQUENCE_REPLACEABLE,
            key,
            OP_TRUE,
            lambda _signature: [OP_TRUE],
        ),
    ]
    outputs = [tx_builder.Output(ELSEWHERE, coin.asset, coin.value)]
    signed = tx_builder.sign(spends, outputs, policy_asset=LBTC, fee=FEE_SATS)
    world.rules.books.gone_out[signed.txid] = {coin.asset: coin.value}
    return world.ground.send(signed.raw) is not None


def refund(world: "World") -> str:
    """Somebody with the seed refunds a swap that nobody has paid or can pay, past the daemon."""
    height = world.ground.chain.tip_height
    for row in world.rules.rows.values():
        deal = world.deals.get(row["request_id"])
        if (
            deal is None
            or deal.paid
            or deal.holding_until is not None
            or row["finished"]
            or row["invoice_mark"] not in (InvoiceMark.CLOSED, InvoiceMark.REFUNDING)
            or world.node.book.with_label(row["swap_id"]) is not None
            or not row["funding_txid"]
            or row["refund_lock_height"] > height
        ):
            continue
        if _send_refund(world, row):
            return f"swap {row['key_index']}"
    return "none"


def _send_refund(world: "World", row: Row) -> bool:
    books = world.rules.books
    spends, outputs, total_lbtc = [], [], 0
    funding_txid: str = row["funding_txid"]
    lock_height = 0
    for vout in (row["asset_vout"], row["subsidy_vout"]):
        lock = books.locked.get((funding_txid, vout))
        if lock is None or world.ground.chain.coin(funding_txid, vout) is None:
            return False
        lock_height = lock.lock_height
        witness_script = htlc.witness_script(
            lock.payment_hash,
            row["buyer_key_hash"],
            row["seller_key_hash"],
            lock_height,
        )
        spends.append(
            tx_builder.refund_spend(
                Outpoint(funding_txid, vout),
                lock.value,
                world.keys.refund_key(row["key_index"]),
                witness_script,
            )
        )
        if lock.asset == LBTC:
            total_lbtc += lock.value
        else:
            outputs.append(tx_builder.Output(ELSEWHERE, lock.asset, lock.value))
    fee = 300
    outputs.append(tx_builder.Output(ELSEWHERE, LBTC, total_lbtc - fee))
    signed = tx_builder.sign(spends, outputs, policy_asset=LBTC, fee=fee, lock_time=lock_height)
    taken = {LBTC: total_lbtc, **{o.asset_id: o.value for o in outputs if o.asset_id != LBTC}}
    books.gone_out[signed.txid] = taken
    return world.ground.send(signed.raw) is not None
