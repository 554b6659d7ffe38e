"""At the start of the daemon: is this the database that goes with the rescue journal?

A line of the journal is written after the commit that made its swap. So a database that does not
know the swap of a line is another one, or an older copy. What a daemon could spoil on it before
`lnliquid rescue` runs, and could not be mended afterwards, is kept from happening here.
"""

from lnliquid.errors import SettingsError
from lnliquid.liquid.keys import Keychain
from lnliquid.seller import journal
from lnliquid.seller.journal import RescueJournal
from lnliquid.settings import Settings
from lnliquid.store import coins as coin_store
from lnliquid.store import swaps as swap_store
from lnliquid.store.rebuild import raise_cursor
from lnliquid.store.sqlite import Database

MAX_INDEX = 2**31 - 2**24
"""No number above is believed: derivation indexes end at 2**31 (BIP32)."""


async def check(
    database: Database, rescue: RescueJournal, keys: Keychain, settings: Settings
) -> None:
    """Let no new swap have the key index of one that the journal names.

    Two swaps cannot have one index, so the forgotten one could not be rebuilt. Raises
    `SettingsError` when the database holds no swap at all and the journal does.
    """
    lines = list(journal.read_lines(rescue.path))
    swaps = {str(line.get("swap_id")) for line in lines}
    is_empty = await database.read(swap_store.holds_none)
    if swaps and is_empty:
        raise SettingsError(
            (
                f"the database {settings.database} holds no swap, and the rescue journal "
                f"{rescue.path} names {len(swaps)} that may be unfinished: rebuild them with "
                "`lnliquid rescue`; to start anew without them, move the journal away",
            ),
            hint="locked coins are only refunded by a daemon that knows their swaps",
        )
    least = _next_index(rescue, lines, keys)
    if await database.read(lambda tx: coin_store.cursor(tx, swap_store.NEXT_SWAP)) < least:
        await database.write(lambda tx: raise_cursor(tx, swap_store.NEXT_SWAP, least))


def _next_index(rescue: RescueJournal, lines: list[dict[str, object]], keys: Keychain) -> int:
    """The first swap index that the journal leaves unused; a damaged line does not count."""
    indexes = [0]
    for record in journal.records(rescue.path):
        told = record.get("next_swap_index")
        if record.get("kind") == "indexes" and isinstance(told, int) and told < MAX_INDEX:
            indexes.append(told)
    named = [(r.get("key_index"), str(r.get("swap_id")), r.get("payment_hash")) for r in lines]
    whole = [(i, s, h) for i, s, h in named if isinstance(i, int) and 0 <= i < MAX_INDEX]
    for index, swap_id, payment_hash in sorted(whole, key=lambda n: n[0], reverse=True):
        if index < max(indexes) or keys.payment_hash(index, swap_id).hex() == payment_hash:
            indexes.append(index + 1)
            break
    return max(indexes)
