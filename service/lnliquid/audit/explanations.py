"""What each kind of difference means, and what to do about it, for a person."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """`meaning`: what this can come from. `advice`: the next step."""

    meaning: str
    advice: str


EXPLANATIONS: dict[str, Words] = {
    "unread": Words(
        "The Electrum server did not give this history, so nothing can be said of its coins.",
        "Audit again later, or with a server that serves longer histories.",
    ),
    "reservation": Words(
        "More is reserved for the swaps that wait for funding than the wallet's coins hold.",
        "Coins are gone: look at the coin differences first.",
    ),
    "binding": Words(
        "Each coin that a living transaction of ours spends belongs to it alone.",
        "Pause sales and save the database: two transactions may want the same coin.",
    ),
    "own tx": Words(
        "A stored transaction of ours is not what the chain shows of it.",
        "A stopped daemon has not taken in the latest blocks: start it and audit again. If the "
        "bytes are damaged run `lnliquid restore`.",
    ),
    "unknown tx": Words(
        "Only our keys could sign it, and this database did not: it is an older copy, or somebody "
        "else uses the mnemonic.",
        "Stop the daemon and run `lnliquid restore`, if the replica or a backup is newer. If it "
        "stays, move the coins to a new mnemonic.",
    ),
    "funding": Words(
        "What is locked for a swap on the chain is not what the store says.",
        "Stop the daemon and run `lnliquid restore`, if the replica or a backup is newer.",
    ),
    "swap": Words(
        "A swap's state does not follow from the chain, or its event log ends elsewhere.",
        "A stopped daemon has not taken in the latest blocks: start it and audit again.",
    ),
    "coin": Words(
        "The wallet's coins are not those of the chain.",
        "Start the daemon, which reads its addresses again, and audit again. If it stays, see "
        "whether another program uses the mnemonic.",
    ),
    "ledger": Words(
        "The sums do not add up; it follows from differences named above, or money went elsewhere.",
        "Clear the others first. Money at scripts that are neither ours nor a withdrawal's was "
        "sent with this mnemonic by something else.",
    ),
    "invoice": Words(
        "Core Lightning and the store do not agree about an invoice; another program may have "
        "changed or deleted it, or the store is an older copy.",
        "A stopped daemon has not taken in the latest payments: start it and audit again. Paid and "
        "refunded is a loss of the buyer's: settle it with the buyer. Never delete invoices by "
        "hand.",
    ),
}
"""By the rule that a difference names. Every rule has an entry, as a test checks."""
