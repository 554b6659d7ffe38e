"""A database belongs to one wallet on one network; with another nothing of it may be touched.

What it holds was derived from the wallet's keys. Another wallet would make invoices whose hash is
not the HTLC's, sign refunds that fail, and pay change to scripts that only it can spend.
"""

from lnliquid.config import Settings
from lnliquid.domain.errors import SettingsError
from lnliquid.domain.htlc import p2wpkh_script
from lnliquid.domain.transaction import parse_transaction
from lnliquid.liquid.address import AddressError, p2wpkh_key_hash
from lnliquid.liquid.keys import Keychain
from lnliquid.store import identity as store
from lnliquid.store.database import Database, Transaction, read_file

HINT = "put back the mnemonic_file and network that belong to it, or name another database"


async def check(database: Database, keys: Keychain, settings: Settings) -> None:
    """Refuse a database of another wallet or network (`SettingsError`); a new one becomes ours."""
    if not await database.read(lambda tx: is_known(tx, keys, settings)):
        await database.write(lambda tx: adopt(tx, keys, settings))


def check_file(keys: Keychain, settings: Settings) -> None:
    """The same for a database that another process may be using; nothing is changed."""
    if settings.database.is_file() and settings.database.stat().st_size:
        read_file(settings.database, lambda tx: is_known(tx, keys, settings))


def adopt(tx: Transaction, keys: Keychain, settings: Settings) -> None:
    """Store wallet and network, once they are known to fit what is stored. `SettingsError`."""
    if not is_known(tx, keys, settings):
        store.put(tx, keys.fingerprint, keys.network.name)


def is_known(tx: Transaction, keys: Keychain, settings: Settings) -> bool:
    """True when the database has wallet and network, False when it has none and may take them.

    Raises `SettingsError` when it is another's. One of an older program knows no wallet: what it
    holds must follow from the keys.
    """
    known = store.stored(tx)
    here = {store.WALLET: keys.fingerprint, store.NETWORK: keys.network.name}
    problems = [
        f"the database {settings.database} belongs to the {name} {known[name]}, and "
        f"{_source(name, settings)} the {name} {value}"
        for name, value in here.items()
        if known and known[name] != value
    ]
    if not known and not _follows(tx, keys):
        problems = [
            f"the database {settings.database} holds swaps or coins of another wallet or network "
            f"than mnemonic_file {settings.mnemonic_file}, which is the wallet {keys.fingerprint} "
            f"on {keys.network.name}"
        ]
    if problems:
        raise SettingsError(tuple(problems), hint=HINT)
    return bool(known)


def _source(name: str, settings: Settings) -> str:
    if name == store.WALLET:
        return f"mnemonic_file {settings.mnemonic_file} is"
    return "the settings name"


def _follows(tx: Transaction, keys: Keychain) -> bool:
    """True when the first swap, or else a coin of our own making, follows from these keys."""
    swap = store.first_swap(tx)
    if swap is not None:
        try:
            p2wpkh_key_hash(swap.buyer_claim_address, keys.network)
        except AddressError:  # of another network
            return False
        derived = (
            keys.refund_key(swap.key_index).key_hash,
            keys.payment_hash(swap.key_index, swap.swap_id),
        )
        return derived == (swap.seller_key_hash, swap.payment_hash)
    coin = store.own_coin(tx)
    if coin is None:
        return True
    paid = parse_transaction(coin.raw).outputs[coin.vout].script_pubkey
    return paid == p2wpkh_script(keys.wallet_key(coin.branch, coin.key_index).key_hash)
