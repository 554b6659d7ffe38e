"""Prices that the operator set: the newest row of an asset counts, and may clear it."""

from sqlalchemy import select
from sqlmodel import col

from lnliquid.domain.price import Price
from lnliquid.store.database import Transaction
from lnliquid.store.tables import PriceRow


def put(tx: Transaction, asset_id: str, msat_per_unit: int | None, valid_until: int | None) -> None:
    """Set a price, or with None go back to that of the settings."""
    tx.add(
        PriceRow(asset_id=asset_id, msat_per_unit=msat_per_unit, valid_until=valid_until, at=tx.now)
    )
    tx.flush()
    tx.info.pop(("price", asset_id), None)


def at_present(tx: Transaction, asset_id: str, from_settings: int) -> Price:
    """The price that counts now. Of a transaction of many swaps the first one asks the table."""
    key = ("price", asset_id)
    if key not in tx.info:
        of_asset = col(PriceRow.asset_id) == asset_id
        newest = select(PriceRow).where(of_asset).order_by(col(PriceRow.seq).desc()).limit(1)
        tx.info[key] = tx.scalar(newest)
    row: PriceRow | None = tx.info[key]
    if row is None or row.msat_per_unit is None:
        return Price(from_settings)
    return Price(row.msat_per_unit, row.valid_until, row.at)
