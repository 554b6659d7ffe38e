"""Buy an asset from Python: look at the offer, have it locked, check everything, pay, claim.

    python docs/examples/buy.py AMOUNT MAX_PRICE_MSAT

AMOUNT is in the asset's smallest unit. Seller, backends and asset come from the environment, as
for `lnliquid buy`. Exit code 0: the claim is on its way or confirmed.
"""
# ruff: noqa: T201 - printing is what an example does

import asyncio
import os
import sys
from pathlib import Path

from lnliquid.buyer import (
    BackendError,
    BuyerError,
    BuyerSettings,
    Order,
    PaymentFailed,
    Progress,
    SellerDeclined,
    SellerUnavailable,
    SettingsError,
    Unfinished,
    VerdictNotClean,
    connect,
    new_request_id,
    quote_msat,
)


def settings_from_environment() -> BuyerSettings:
    """The variables that `lnliquid buy` reads; `source DIR/env` sets them in the lab."""
    return BuyerSettings(
        directory=Path(os.environ["LNLIQUID_BUYER_DIR"]),
        network=os.environ["LNLIQUID_BUYER_NETWORK"],
        seller=os.environ["LNLIQUID_BUYER_SELLER"],
        electrum_url=os.environ["LNLIQUID_BUYER_ELECTRUM"],
        lightning_rpc=Path(os.environ["LNLIQUID_BUYER_LIGHTNING_RPC"]),
    )


def say(progress: Progress) -> None:
    """Each step as it happens."""
    print(f"  {progress.step}: {progress.text}")


async def purchase(asset_id: str, amount: int, max_price_msat: int) -> int:
    """One purchase; returns the exit code."""
    # Store this id before anything else: it is what finds the purchase again after a crash.
    request_id = new_request_id()
    try:
        async with connect(settings_from_environment(), say) as buyer:
            offer = await buyer.offer(asset_id)
            price_msat = quote_msat(offer, amount)
            print(f"{offer.available_amount} available; {amount} cost {price_msat} msat")
            order = Order(
                request_id=request_id,
                asset_id=asset_id,
                amount=amount,
                max_price_msat=max_price_msat,
                min_confs=1,
                max_fee_msat=max(5_000, price_msat // 100),
            )
            # The seller locks the asset; every check is made; nothing is paid.
            verdict = await buyer.check(order, offer=offer)
            for check in verdict.checks:
                print(f"  {check.name}: {check.found}")
            # Here a program of yours could still say no.
            outcome = await buyer.buy(order)
    except VerdictNotClean as error:
        for check in error.verdict.failed:
            print(f"{check.name}: {check.meaning} {check.advice}")
        return 1
    except (SellerDeclined, PaymentFailed) as error:
        print(f"nothing was paid: {error}")
        return 1
    except (SellerUnavailable, BackendError, Unfinished) as error:
        # Whatever was done is stored: `buyer.resume(request_id)` goes on from there.
        print(f"not finished: {error}")
        return 4
    except (BuyerError, SettingsError) as error:
        print(f"not bought: {error}")
        return 1
    print(f"paid {outcome.paid_msat} msat, claimed by {outcome.claim_txid}")
    return 0 if outcome.claimed else 4


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asset = os.environ["LNLIQUID_BUYER_ASSET"]
    sys.exit(asyncio.run(purchase(asset, int(sys.argv[1]), int(sys.argv[2]))))
