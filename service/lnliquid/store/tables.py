"""SQLModel tables. Times are unix seconds, UTC; amounts smallest unit, sat or msat; bytes are BLOB.

The migrations in `migrations/versions` make these tables; a test compares the two.
"""

from enum import IntEnum

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, text
from sqlmodel import Field, SQLModel

from lnliquid.domain.swap import State


class SwapRow(SQLModel, table=True):
    """`swap.Swap`, column by column."""

    __tablename__ = "swap"
    __table_args__ = (
        CheckConstraint("state BETWEEN 1 AND 5", name="ck_swap_state"),
        CheckConstraint("asset_amount > 0", name="ck_swap_amount"),
        Index("ix_swap_open", "finished", "state"),
        Index(
            "ix_swap_waiting",
            "key_index",
            sqlite_where=text("funding_txid IS NULL AND finished IS 0"),
        ),
        Index("ix_swap_unclaimed", "key_index", sqlite_where=text("paid_unclaimed IS 1")),
        Index("ix_swap_final_height", "final_height"),
    )

    swap_id: str = Field(primary_key=True)
    request_id: str = Field(unique=True)
    key_index: int = Field(unique=True)
    state: int = int(State.CREATED)
    asset_id: str
    asset_amount: int
    subsidy_sats: int
    total_price_msat: int
    max_total_price_msat: int
    min_funding_confs: int
    max_ln_cltv_blocks: int
    buyer_claim_address: str
    buyer_key_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    seller_key_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    payment_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    created_at: int
    fee_share_sats: int = 0
    refund_lock_height: int | None = None
    funding_txid: str | None = Field(default=None, foreign_key="own_tx.txid", index=True)
    asset_vout: int | None = None
    subsidy_vout: int | None = None
    bolt11: str | None = None
    invoice_expires_at: int | None = None
    invoice_mark: int = 0
    spend_txid: str | None = None
    paid_unclaimed: bool = False
    finished: bool = False
    final_height: int | None = None
    forced_refund_reason: str | None = None


class OutpointRow(SQLModel, table=True):
    """An outpoint that a transaction of ours spends, a coin or an HTLC output: one live owner."""

    __tablename__ = "reserved_outpoint"
    __table_args__ = (
        Index(
            "uq_reserved_outpoint_live", "txid", "vout", unique=True, sqlite_where=text("live IS 1")
        ),  # IS, as the queries say it: SQLite uses the index for no other words
    )

    id: int | None = Field(default=None, primary_key=True)
    txid: str
    vout: int
    owner_txid: str = Field(index=True)
    live: bool = True


class CoinRow(SQLModel, table=True):
    """An output that pays the wallet. `height` is null while unconfirmed."""

    __tablename__ = "coin"
    __table_args__ = (
        Index("ix_coin_script", "branch", "key_index"),
        Index("ix_coin_unspent", "asset_id", sqlite_where=text("spent_txid IS NULL")),
        Index("ix_coin_spent_height", "spent_height"),
    )

    txid: str = Field(primary_key=True)
    vout: int = Field(primary_key=True)
    asset_id: str
    value: int
    branch: int
    key_index: int
    height: int | None = None
    spent_txid: str | None = None
    spent_height: int | None = None


class TxState(IntEnum):
    """What became of a transaction of ours. The numbers are stored: fixed.

    Of a family, all versions that replace one another, one at most is not REPLACED.
    """

    SIGNED = 1
    """Stored; no node has answered yet. Its bytes are sent until it confirms."""
    CONFIRMED = 2
    """In a block, as last seen."""
    ABANDONED = 3
    """Each version of it has an input that can never be spent by it any more."""
    REPLACED = 4
    """Another version of its family stands in its place."""
    ACCEPTED = 5
    """In the mempool, as last seen."""
    REFUSED = 6
    """No node takes it now. Its bytes are sent again all the same; nothing is built on it."""


PENDING = (TxState.SIGNED, TxState.ACCEPTED, TxState.REFUSED)
"""It is to confirm."""
LIVING = (*PENDING, TxState.CONFIRMED)
"""It is to confirm, or has."""


class Purpose(IntEnum):
    """What a transaction of ours is for."""

    FUNDING = 1
    """Locks the coins of one or more swaps."""
    REFUND = 2
    """Takes HTLC outputs back: refunds and leftovers."""
    LANES = 3
    """Splits or merges the wallet's coins."""
    DEPOSIT = 4
    """Made by others. Kept and sent again because a transaction of ours spends from it."""
    WITHDRAWAL = 5
    """Sends coins of the wallet to an address that the operator gave."""


class OwnTxRow(SQLModel, table=True):
    """A transaction of ours, stored whole before its first broadcast (money rule 1)."""

    __tablename__ = "own_tx"
    __table_args__ = (
        Index("ix_own_tx_state", "state", "height"),
        Index("ix_own_tx_unread", "txid", sqlite_where=text("unread IS 1")),
    )

    txid: str = Field(primary_key=True)
    purpose: int
    raw: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    state: int = int(TxState.SIGNED)
    fee_sats: int
    vsize: int
    created_at: int
    signed_height: int
    height: int | None = None
    replaces: str | None = Field(default=None, foreign_key="own_tx.txid")
    family: str = Field(index=True, sa_column_kwargs={"server_default": ""})
    """The first version's txid, shared by all that replace one another."""
    unread: bool = Field(default=False, sa_column_kwargs={"server_default": text("0")})
    """It was in a block when last read, and could not be read since."""


class WithdrawalRow(SQLModel, table=True):
    """A withdrawal as it was ordered. Where it is now, its family of transactions says."""

    __tablename__ = "withdrawal"
    __table_args__ = (CheckConstraint("amount > 0", name="ck_withdrawal_amount"),)

    request_id: str = Field(primary_key=True)
    asset_id: str
    amount: int
    """What the address receives."""
    is_all: bool
    """Everything that could be withdrawn was asked for, and not this amount."""
    address: str
    script_pubkey: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    family: str = Field(unique=True, foreign_key="own_tx.txid")
    created_at: int


class PriceRow(SQLModel, table=True):
    """A price that the operator set; rows are only ever added, the newest of an asset counts."""

    __tablename__ = "price"
    __table_args__ = (Index("ix_price_asset", "asset_id", "seq"),)

    seq: int | None = Field(default=None, primary_key=True)
    asset_id: str
    msat_per_unit: int | None = None
    """None: back to the price of the settings."""
    valid_until: int | None = None
    """Unix seconds; None for no end."""
    at: int


class EventRow(SQLModel, table=True):
    """The event log; rows are only ever added."""

    __tablename__ = "event"

    seq: int | None = Field(default=None, primary_key=True)
    swap_id: str = Field(foreign_key="swap.swap_id", index=True)
    from_state: int | None = None
    to_state: int
    cause: str
    txid: str | None = None
    height: int | None = None
    at: int


class CursorRow(SQLModel, table=True):
    """Named numbers: next derivation indexes, last pay index, pause switch."""

    __tablename__ = "cursor"

    name: str = Field(primary_key=True)
    value: int


class IdentityRow(SQLModel, table=True):
    """Whose database it is, see `store.identity`. Written once, nothing of it is secret."""

    __tablename__ = "identity"

    name: str = Field(primary_key=True)
    value: str


class BlockRow(SQLModel, table=True):
    """A block of the chain that decisions were made on. `block_id` as in `swap.Tip`."""

    __tablename__ = "block"

    height: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    block_id: str
