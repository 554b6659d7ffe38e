"""For each check of `verify`: what it means when it fails, and what to do. For a person."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Advice:
    """`meaning`: what could happen if you paid. `action`: what to do instead."""

    meaning: str
    action: str


_LOOK_ELSEWHERE = "Do not pay. Tell the seller, or buy elsewhere"
_BUY_AGAIN = "Do not pay. Buy again with a new request id"

ADVICE: dict[str, Advice] = {
    "network": Advice(
        "The seller sells on another chain than yours; its asset would not reach you.",
        "Correct --network, or use a seller on your chain.",
    ),
    "request": Advice(
        "The reply is about another order than yours; somebody mixed them up.",
        f"{_LOOK_ELSEWHERE}.",
    ),
    "state": Advice(
        "Only a FUNDED swap has something locked for you. CREATED is not ready yet; the other "
        "states are over.",
        "If it is CREATED, look again after the next block. Else buy again.",
    ),
    "asset": Advice(
        "Something else than the asset that you ordered would be delivered.",
        f"{_LOOK_ELSEWHERE}.",
    ),
    "amount": Advice(
        "The seller would deliver another amount than you ordered.",
        f"{_LOOK_ELSEWHERE}.",
    ),
    "claim address": Advice(
        "The asset would go to an address that is not yours.",
        f"{_LOOK_ELSEWHERE}. Look who can change what you receive from the seller.",
    ),
    "invoice": Advice(
        "The invoice is missing, damaged, or could be read in two ways. Your node might pay for "
        "something else than was checked.",
        "Read the swap again with `lnliquid resume`. If it stays like this, do not pay.",
    ),
    "invoice network": Advice(
        "The invoice is for another Lightning network.",
        f"{_LOOK_ELSEWHERE}.",
    ),
    "invoice signer": Advice(
        "The payment would go to a node that is not the one in the seller's offer.",
        f"{_LOOK_ELSEWHERE}. Ask the seller by another way which node is theirs.",
    ),
    "payment hash": Advice(
        "Paying would not reveal the secret that unlocks the asset: you would pay for nothing.",
        f"{_LOOK_ELSEWHERE}.",
    ),
    "price": Advice(
        "The invoice asks for another price than the offer.",
        "Do not pay. Ask for a new offer with `lnliquid offer`, and order on that.",
    ),
    "price limit": Advice(
        "It costs more than you agreed to.",
        "Do not pay, or buy again with a higher --max-price-msat.",
    ),
    "invoice expiry": Advice(
        "The invoice can no longer be paid, or has no expiry that can be read.",
        f"{_BUY_AGAIN}.",
    ),
    "invoice CLTV": Advice(
        "Your payment could be held longer than was agreed, past the time at which the seller can "
        "take the asset back.",
        f"{_LOOK_ELSEWHERE}.",
    ),
    "script": Advice(
        "The contract is not the agreed one. Your key might not be able to claim the asset, or "
        "the seller could take it back too early.",
        f"{_LOOK_ELSEWHERE}.",
    ),
    "funding transaction": Advice(
        "Your Electrum server does not show the transaction that the seller names.",
        "If it may still be on its way, resume after the next block. If your server is in sync "
        "and does not have it, do not pay.",
    ),
    "asset output": Advice(
        "The asset is not locked for you as the seller says.",
        f"{_LOOK_ELSEWHERE}.",
    ),
    "subsidy output": Advice(
        "The L-BTC for the fee of your claim is not locked as offered; you could pay and not be "
        "able to claim.",
        f"{_LOOK_ELSEWHERE}.",
    ),
    "claim fee": Advice(
        "At the fees of now a claim might not confirm before the seller can take the asset back.",
        "Wait until fees are lower, then `lnliquid resume`. Mind the invoice's expiry.",
    ),
    "confirmations": Advice(
        "The funding is not deep enough in the chain as your own server sees it; it could vanish.",
        "Wait for more blocks, then `lnliquid resume`.",
    ),
    "unspent": Advice(
        "What was locked for you is already spent, or about to be.",
        f"{_BUY_AGAIN} if you still want it.",
    ),
    "timelock budget": Advice(
        "The seller could take the asset back while your payment is still held on its way.",
        f"{_LOOK_ELSEWHERE}. The seller's settings are not safe by your own reckoning of block "
        "times.",
    ),
    "blocks left": Advice(
        "There are too few blocks left to pay and claim before the seller can take the asset back.",
        f"{_BUY_AGAIN}.",
    ),
}
"""By the name of the check. A check without an entry cannot be built."""
