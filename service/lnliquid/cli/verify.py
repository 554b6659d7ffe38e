"""The command `lnliquid verify`: check a saved answer of the seller without any server."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lnliquid.buyer import KnownTerms, OfflineVerdict, verify_offline
from lnliquid.cli import saved_answers as saved
from lnliquid.cli.buyer_options import JsonOption, asset_id, option
from lnliquid.cli.buyer_output import write_verdict
from lnliquid.cli.console import clean_errors, show, show_json
from lnliquid.clock import SystemClock
from lnliquid.domain.errors import EXIT_FAILED, EXIT_OK, EXIT_UNFINISHED
from lnliquid.domain.terms import MAX_AMOUNT
from lnliquid.liquid.address import AddressError, p2wpkh_address, p2wpkh_key_hash
from lnliquid.liquid.keys import hash160
from lnliquid.liquid.networks import NETWORKS_BY_NAME

EXIT_CODES = """\b
Exit codes:
  0  every check that needs no server was made and passed
  1  a check failed: do not pay
  2  a file or an option cannot be used
  4  none failed, but some lack an option; each names it"""


EXAMPLE = "lnliquid verify swap.json --network liquidv1 --offer offer.json"


def register(cli: typer.Typer) -> None:
    """Add the command to the command line."""
    epilog = f"\b\nExample:\n  {EXAMPLE}\n\n{EXIT_CODES}"
    cli.command("verify", epilog=epilog, rich_help_panel="Buyer")(verify)


def verify(
    file: Annotated[
        Path,
        typer.Argument(
            help="The answer of CreateSwap or GetSwap as grpcurl prints it, or what "
            "`lnliquid buy --dry-run --json` or `show --json` printed."
        ),
    ],
    network: Annotated[
        str | None, option("network", "Liquid chain. Needed unless the file tells your order.")
    ] = None,
    offer: Annotated[
        Path | None, typer.Option(help="The answer of GetOffer, or of `lnliquid offer --json`.")
    ] = None,
    funding_tx: Annotated[
        Path | None, typer.Option(help="File with the raw funding transaction in hex.")
    ] = None,
    request_id: Annotated[str | None, typer.Option(help="The id of your request.")] = None,
    asset: Annotated[
        str | None, typer.Option(help="Asset that you ordered, 64 hex digits.")
    ] = None,
    amount: Annotated[
        int | None, typer.Option(min=1, max=MAX_AMOUNT, help="Amount that you ordered.")
    ] = None,
    max_price_msat: Annotated[
        int | None, typer.Option(min=1, help="The most that you agreed to pay, msat.")
    ] = None,
    claim_address: Annotated[str | None, typer.Option(help="Your claim address.")] = None,
    claim_pubkey: Annotated[
        str | None, typer.Option(help="Your claim key instead: 66 hex digits.")
    ] = None,
    tip_height: Annotated[
        int | None, typer.Option(min=0, help="Height of the chain now, from your own server.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a saved answer of the seller offline: no server is asked, nothing is paid.

    Makes every check that needs no server. What it could not check it names, with the reason: a
    payment is only safe after those too, and `lnliquid buy` makes them all.
    """
    with clean_errors(as_json):
        swap, terms = saved.answer_in(file)
        terms = terms or KnownTerms("")
        chosen = terms.network or network  # the variable may be of another purchase
        if not chosen:
            raise typer.BadParameter("--network is needed: the file does not tell your chain")
        if chosen not in NETWORKS_BY_NAME:
            raise typer.BadParameter(
                f"network {chosen!r} is not one of {', '.join(NETWORKS_BY_NAME)}"
            )
        typed = KnownTerms(
            network=chosen,
            offer=saved.offer_in(offer) if offer else None,
            request_id=request_id,
            asset_id=asset_id(asset) if asset else None,
            amount=amount,
            max_price_msat=max_price_msat,
            claim_address=_claim_address(claim_address, claim_pubkey, chosen),
            tip_height=tip_height,
        )
        terms = _with_key(terms.overruled_by(typed))
        raw = saved.transaction_in(funding_tx) if funding_tx else None
    verdict = verify_offline(swap, terms, raw, SystemClock().now())
    code = _exit_code(verdict)
    if as_json:
        show_json(
            {
                "ok": verdict.ok,
                "checks": verdict.made.to_dict()["checks"],
                "not_made": [
                    {"name": c.name, "why": c.why, "lacks": [fact.name.lower() for fact in c.lacks]}
                    for c in verdict.not_made
                ],
                "exit_code": code,
            }
        )
    else:
        _show(verdict)
    raise typer.Exit(code)


def _exit_code(verdict: OfflineVerdict) -> int:
    if not verdict.made.ok:
        return EXIT_FAILED
    return EXIT_UNFINISHED if verdict.missing_input else EXIT_OK


def _show(verdict: OfflineVerdict) -> None:
    write_verdict(verdict.made)
    for check in verdict.not_made:
        show(f"not    {check.name:20} {check.why}", indent=28)
    passed = sum(check.ok for check in verdict.made.checks)
    show(f"{passed} passed, {len(verdict.made.failed)} failed, {len(verdict.not_made)} not made.")
    if verdict.made.failed:
        show("Do not pay.")
    elif verdict.missing_input:
        show("Not enough to judge: give what is named above.")
    else:
        show(
            "Every check that needs no server passed. Before you pay, your own server has to "
            "answer the rest; `lnliquid buy` asks it."
        )


def _claim_address(address: str | None, pubkey: str | None, network: str) -> str | None:
    if pubkey is None:
        return address
    if address is not None:
        raise typer.BadParameter("--claim-address and --claim-pubkey are two forms of one thing")
    if not re.fullmatch("0[23][0-9a-fA-F]{64}", pubkey):
        raise typer.BadParameter("--claim-pubkey is not a compressed public key of 66 hex digits")
    return p2wpkh_address(hash160(bytes.fromhex(pubkey)), NETWORKS_BY_NAME[network])


def _with_key(terms: KnownTerms) -> KnownTerms:
    """The address in its usual spelling, and its key hash."""
    if terms.claim_address is None:
        return terms
    network = NETWORKS_BY_NAME[terms.network]
    try:
        key_hash = p2wpkh_key_hash(terms.claim_address, network)
    except AddressError as error:
        raise typer.BadParameter(f"the claim address {terms.claim_address}: {error}") from None
    address = p2wpkh_address(key_hash, network)
    return replace(terms, claim_address=address, claim_key_hash=key_hash)
