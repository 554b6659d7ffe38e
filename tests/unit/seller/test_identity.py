"""A database belongs to one wallet on one network: every command that uses keys refuses another."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from typer.testing import CliRunner

from lnliquid.cli import command_line
from lnliquid.config import Settings
from lnliquid.domain.errors import SettingsError
from lnliquid.domain.htlc import p2wpkh_script
from lnliquid.domain.transaction import parse_transaction
from lnliquid.liquid.keys import CHANGE, Keychain
from lnliquid.liquid.networks import MAINNET, TESTNET
from lnliquid.seller import identity
from lnliquid.store import identity as identity_store
from lnliquid.store import schema
from lnliquid.store import swaps as swap_store
from lnliquid.store import transactions as tx_store
from lnliquid.store.database import Database, Transaction
from lnliquid.store.tables import CoinRow, Purpose

from ..audit.test_audit import DEPOSITS
from ..builders import (
    BUYER,
    BUYER_WORDS,
    NOW,
    SELLER,
    SELLER_WORDS,
    StillClock,
    address_of,
    make_request,
    make_swap,
    migrated,
    new_swap,
    plan_funding,
    settings_values,
    stock,
)

ELSEWHERE = {name: Keychain(SELLER_WORDS, network) for name, network in (
    ("mainnet", MAINNET), ("testnet", TESTNET),
)}  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a seller on regtest."""
    return Settings(**settings_values(tmp_path))


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """One that no start has seen."""
    made = Database(migrated(settings.database), StillClock())
    yield made
    made.close()


async def sell(database: Database) -> None:
    """T1 of the seller's first swap."""
    await stock(database)
    await database.write(lambda tx: swap_store.create(tx, new_swap(make_request(0))))


def test_a_wallet_is_named_by_the_fingerprint_of_its_master_key() -> None:
    """BIP32's, which other wallets show too; the same on every network."""
    assert SELLER.fingerprint == "73c5da0a"  # of the words `abandon … about`, as everywhere told
    assert {keys.fingerprint for keys in ELSEWHERE.values()} == {SELLER.fingerprint}
    assert BUYER.fingerprint != SELLER.fingerprint


async def test_a_new_database_takes_wallet_network_and_an_id(
    database: Database, settings: Settings
) -> None:
    """At the first start; later ones write nothing."""
    await identity.check(database, SELLER, settings)
    known = await database.read(identity_store.stored)
    assert known.pop("database_id").isalnum()
    assert known == {"wallet": "73c5da0a", "network": "liquid-regtest"}
    commits = database.commits
    await identity.check(database, SELLER, settings)
    assert database.commits == commits


async def test_another_wallet_is_refused_and_both_are_named(
    database: Database, settings: Settings
) -> None:
    """With the files and the way out."""
    await identity.check(database, SELLER, settings)
    with pytest.raises(SettingsError) as refused:
        await identity.check(database, BUYER, settings)
    told = f"{refused.value}\n{refused.value.hint}"
    for words in (
        SELLER.fingerprint, BUYER.fingerprint, str(settings.database),
        str(settings.mnemonic_file), "put back the mnemonic_file",
    ):  # fmt: skip
        assert words in told
    assert BUYER_WORDS.split()[0] not in told


@pytest.mark.parametrize("name", ELSEWHERE)
async def test_another_network_is_refused_and_both_are_named(
    database: Database, settings: Settings, name: str
) -> None:
    """The same wallet: only the network is told as different."""
    await identity.check(database, SELLER, settings)
    with pytest.raises(
        SettingsError, match=r"network liquid-regtest, and .*network liquid"
    ) as told:
        await identity.check(database, ELSEWHERE[name], settings)
    assert ELSEWHERE[name].network.name in str(told.value)
    assert SELLER.fingerprint not in str(told.value)


OTHERS = {"another wallet": BUYER, **ELSEWHERE}


@pytest.mark.parametrize("name", OTHERS)
async def test_a_database_without_an_identity_is_only_taken_by_the_wallet_of_its_swaps(
    database: Database, settings: Settings, name: str
) -> None:
    """As older programs left it: the other one is refused, and nothing is stored."""
    await sell(database)
    with pytest.raises(SettingsError, match="swaps or coins of another wallet or network"):
        await identity.check(database, OTHERS[name], settings)
    assert await database.read(identity_store.stored) == {}
    await identity.check(database, SELLER, settings)
    assert (await database.read(identity_store.stored))["wallet"] == SELLER.fingerprint


async def test_a_swap_that_another_wallet_made_later_does_not_change_the_owner(
    database: Database, settings: Settings
) -> None:
    """An older program let another mnemonic in: the wallet that made the database is the owner."""
    await sell(database)

    def foreign(tx: Transaction) -> None:
        new = new_swap(
            make_request(1),
            keys=lambda index: (
                BUYER.payment_hash(index, "foreign"),
                BUYER.refund_key(index).key_hash,
            ),
        )
        swap_store.create(tx, new)

    await database.write(foreign)
    with pytest.raises(SettingsError, match="another wallet"):
        await identity.check(database, BUYER, settings)
    await identity.check(database, SELLER, settings)


async def test_coins_of_our_own_making_tell_the_wallet_where_no_swap_does(
    database: Database, settings: Settings
) -> None:
    """A seller that was stocked, split its lanes, and sold nothing yet."""
    signed = plan_funding([make_swap(9)], DEPOSITS).signed
    index, vout = next(
        (index, vout)
        for vout, output in enumerate(parse_transaction(signed.raw).outputs)
        for index in range(9)
        if output.script_pubkey == p2wpkh_script(SELLER.wallet_key(CHANGE, index).key_hash)
    )

    def lanes(tx: Transaction) -> None:
        tx_store.add(
            tx, txid=signed.txid, raw=signed.raw, purpose=Purpose.LANES,
            fee_sats=signed.fee_sats, vsize=signed.vsize, signed_height=1,
        )  # fmt: skip
        tx.merge(
            CoinRow(txid=signed.txid, vout=vout, asset_id="a", value=1, branch=1, key_index=index)
        )

    await database.write(lanes)
    with pytest.raises(SettingsError, match="another wallet"):
        await identity.check(database, BUYER, settings)
    await identity.check(database, SELLER, settings)


def older_database(path: Path) -> None:
    """A file as the first program made it, with the seller's first swap."""
    config = Config()
    config.set_main_option("script_location", str(schema.migrations()))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    swap = make_swap(0)
    row: dict[str, Any] = {
        "swap_id": swap.swap_id, "request_id": swap.request_id, "key_index": 0, "state": 5,
        "asset_id": swap.asset_id, "asset_amount": 1, "subsidy_sats": 1, "total_price_msat": 1,
        "max_total_price_msat": 1, "min_funding_confs": 1, "max_ln_cltv_blocks": 1,
        "buyer_claim_address": address_of(BUYER), "buyer_key_hash": swap.buyer_key_hash,
        "seller_key_hash": swap.seller_key_hash, "payment_hash": swap.payment_hash,
        "created_at": NOW, "fee_share_sats": 0, "invoice_mark": 0, "paid_unclaimed": 0,
        "finished": 1,
    }  # fmt: skip
    marks = ", ".join("?" * len(row))
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"INSERT INTO swap ({', '.join(row)}) VALUES ({marks})", [*row.values()])


@pytest.mark.parametrize("keys", [SELLER, BUYER], ids=["its wallet", "another"])
async def test_a_file_of_the_first_program_is_carried_over(
    settings: Settings, keys: Keychain
) -> None:
    """Migrated whole, and taken only by its wallet."""
    older_database(settings.database)
    database = Database(settings.database, StillClock())
    try:
        if keys is SELLER:
            await identity.check(database, keys, settings)
        else:
            with pytest.raises(SettingsError, match="another wallet"):
                await identity.check(database, keys, settings)
        known = await database.read(identity_store.stored)
        assert len(await database.read(swap_store.everything)) == 1
    finally:
        database.close()
    assert known.get("wallet") == (SELLER.fingerprint if keys is SELLER else None)


async def first_start(settings: Settings) -> None:
    """Of the seller, on regtest."""
    database = Database(settings.database, StillClock())
    await identity.check(database, SELLER, settings)
    database.close()


COMMANDS = [
    ("serve",), ("audit",), ("check-config",),
]  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("change", ["wallet", "network"])
def test_every_command_that_uses_keys_refuses_another(
    tmp_path: Path, arguments: tuple[str, ...], change: str
) -> None:
    """Exit code 2 and both named, before a node is asked; the database is left as it is."""
    values = settings_values(tmp_path)
    asyncio.run(first_start(Settings(**values)))
    values["network"] = "liquid-regtest" if change == "wallet" else "liquidtestnet"
    mnemonic, config = tmp_path / "mnemonic", tmp_path / "seller.toml"
    mnemonic.write_text(BUYER_WORDS if change == "wallet" else SELLER_WORDS)
    mnemonic.chmod(0o600)
    config.write_text(
        "".join(
            f"{name} = {json.dumps(value if isinstance(value, int) else str(value))}\n"
            for name, value in values.items()
        )
    )
    before = values["database"].read_bytes()
    result = CliRunner().invoke(
        command_line(arguments[0]), [*arguments, "--config", str(config)], env={"COLUMNS": "400"}
    )
    assert result.exit_code == 2, result.output
    named = {
        "wallet": (SELLER.fingerprint, BUYER.fingerprint),
        "network": ("liquid-regtest", "liquidtestnet"),
    }[change]
    assert all(name in result.output for name in named)
    assert "Traceback" not in result.output
    assert values["database"].read_bytes() == before
