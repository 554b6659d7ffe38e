"""The operator's commands for coins that come in and go out: withdraw, withdrawals, deposits."""

import re
import sys
import uuid
from typing import Annotated

import typer

from ln_liquid_swap.v1 import swap_pb2 as pb
from lnliquid.cli import console, views
from lnliquid.cli.formatting import number, utc
from lnliquid.cli.operator import CODES, OperatorOption, ask, status_of
from lnliquid.cli.options import JsonOption, epilog
from lnliquid.domain.errors import EXIT_FAILED
from lnliquid.grpc_client import NoAnswer

LBTC = "L-BTC"
ALL = "all"
STATES = {
    pb.WithdrawalState.WITHDRAWAL_STATE_SENT: "sent",
    pb.WithdrawalState.WITHDRAWAL_STATE_CONFIRMED: "confirmed",
    pb.WithdrawalState.WITHDRAWAL_STATE_ABANDONED: "abandoned",
}
LimitOption = Annotated[int, typer.Option(min=1, max=1_000, help="At most this many.")]


def register(cli: typer.Typer) -> None:
    """Add these commands to the command line."""
    codes = {**CODES, EXIT_FAILED: "refused, or you did not agree; nothing was sent"}
    for name, command, example in (
        ("withdraw", withdraw, "withdraw L-BTC 500000 ert1q…"),
        ("withdrawals", withdrawals, "withdrawals"),
        ("deposits", deposits, "deposits --json"),
    ):
        text = epilog(example, codes=codes if name == "withdraw" else CODES)
        cli.command(name, epilog=text, rich_help_panel="Operator")(command)


def asset_of(text: str) -> str:
    """An asset id in lower case, or L-BTC. Wrong usage when it is neither."""
    if text.upper() == LBTC:
        return LBTC
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise typer.BadParameter(f"{text!r} is neither {LBTC} nor an asset id, 64 hex digits")
    return text.lower()


def amount_of(text: str) -> int:
    """An amount of the smallest unit; 0 stands for `all`. Wrong usage when it is neither."""
    if text == ALL:
        return 0
    digits = text.replace("_", "")
    if not digits.isascii() or not digits.isdigit() or int(digits) == 0:
        raise typer.BadParameter(f"{text!r} is neither an amount in the smallest unit nor `all`")
    return int(digits)


def withdraw(
    asset: Annotated[
        str, typer.Argument(parser=asset_of, metavar="ASSET", help="L-BTC, or an asset's id.")
    ],
    amount: Annotated[
        int, typer.Argument(parser=amount_of, metavar="AMOUNT|all", help="In the smallest unit.")
    ],
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Unblinded address of this network.")
    ],
    operator: OperatorOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    request_id: Annotated[
        str | None,
        typer.Option(help="UUID of this withdrawal: the same one again sends nothing twice."),
    ] = None,
    take_reserve: Annotated[
        bool,
        typer.Option("--take-reserve", help="Take the L-BTC too that refunds may need for fees."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Send coins of the wallet to an address. What is reserved for swaps stays."""
    with console.clean_errors(as_json):
        status = status_of(operator)
        policy_asset = status.assets[-1].asset_id
        request = pb.WithdrawRequest(
            request_id=request_id or str(uuid.uuid4()),
            asset_id=policy_asset if asset == LBTC else asset,
            amount=amount,
            address=address,
            take_reserve=take_reserve,
        )
        if not yes:
            _agree(operator, request, status)
        console.say(f"request id {request.request_id}", style="dim")
        try:
            reply = ask(operator, lambda stub, secs: stub.Withdraw(request, timeout=secs))
        except NoAnswer as error:
            error.hint = (
                f"it may have been sent: run it again with --request-id {request.request_id}; "
                "that sends nothing twice"
            )
            raise
    made = reply.withdrawal
    if as_json:
        console.show_json(views.as_values(reply))
    else:
        console.show(
            f"{STATES[made.state]}: {_amount(made, status)} to {made.address}, "
            f"fee {made.fee_sats:,} sat"
        )
        console.show(f"transaction {made.txid}")


def _agree(operator: str, request: pb.WithdrawRequest, status: pb.GetStatusResponse) -> None:
    """Show what would be sent, and ask. Ends the command with code 1 without a yes."""
    dry = pb.WithdrawRequest()
    dry.CopyFrom(request)
    dry.dry_run = True
    would_be = ask(operator, lambda stub, secs: stub.Withdraw(dry, timeout=secs)).withdrawal
    console.say(f"send     {_amount(would_be, status)}")
    console.say(f"asset    {would_be.asset_id}")
    console.say(f"to       {would_be.address}", indent=9)
    console.say(f"fee      {would_be.fee_sats:,} sat of L-BTC")
    if not sys.stdin.isatty():
        console.say("stdin is no terminal: agree with --yes; nothing was sent", style="red")
        raise typer.Exit(EXIT_FAILED)
    if not typer.confirm("Send it?", default=False, err=True):
        console.say("nothing was sent")
        raise typer.Exit(EXIT_FAILED)


def _amount(item: pb.Withdrawal | pb.Deposit, status: pb.GetStatusResponse) -> str:
    name, precision = _names(status).get(item.asset_id, (item.asset_id, 0))
    return f"{number(item.amount, precision)} {name if name == LBTC else 'units'}"


def _names(status: pb.GetStatusResponse) -> dict[str, tuple[str, int]]:
    """Name and precision of each asset that is held."""
    return {held.asset_id: (name, digits) for held, name, digits in views.holdings(status)}


def withdrawals(
    operator: OperatorOption, limit: LimitOption = 100, as_json: JsonOption = False
) -> None:
    """List withdrawals, newest first."""
    with console.clean_errors(as_json):
        request = pb.ListWithdrawalsRequest(limit=limit)
        reply = ask(operator, lambda stub, secs: stub.ListWithdrawals(request, timeout=secs))
        if as_json:
            console.show_json(views.as_values(reply))
            return
        status = status_of(operator)
    for item in reply.withdrawals:
        where = f"block {item.height:,}" if item.height else STATES[item.state]
        _entry(f"{utc(item.created_at)}  {_amount(item, status)}  {where}", item.address, item.txid)
    if not reply.withdrawals:
        console.show("no withdrawals")


def deposits(
    operator: OperatorOption, limit: LimitOption = 100, as_json: JsonOption = False
) -> None:
    """List what was paid to receive addresses, unconfirmed first, then newest first."""
    with console.clean_errors(as_json):
        request = pb.ListDepositsRequest(limit=limit)
        reply = ask(operator, lambda stub, secs: stub.ListDeposits(request, timeout=secs))
        if as_json:
            console.show_json(views.as_values(reply))
            return
        status = status_of(operator)
    for item in reply.deposits:
        where = f"block {item.height:,}" if item.height else "unconfirmed"
        _entry(f"{where}  {_amount(item, status)}", item.address, f"{item.txid}:{item.vout}")
    if not reply.deposits:
        console.show("no deposits; `lnliquid address` prints where to send coins")


def _entry(line: str, address: str, txid: str) -> None:
    """Address and transaction stand whole on lines of their own, for copying."""
    console.show(line)
    console.show(f"  to {address}", style="dim")
    console.show(f"  tx {txid}", style="dim")
