"""Error kinds of the domain.

Two families. A `SwapError` is an answer to a request: the API maps each kind to one gRPC status
(`api/errors.py`), and its message is written for the person who asked. A `BackendError` is what
an adapter raises when Lightning or the Liquid backend does not do what was asked; its three kinds
differ in what is known about the outcome, because money decisions hang on that difference.

No message of either family may contain a preimage, a key or the mnemonic (money rule 9).
"""

from dataclasses import dataclass, field

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_UNAVAILABLE, EXIT_UNFINISHED, EXIT_HOST = range(6)
"""Exit codes of the commands; `error_report.EXIT_FAULT` is the only other one."""


class KnownError(Exception):
    """An error whose message is for a person; a command ends with `exit_code`, without traceback.

    `hint`: what to do, on a line of its own; empty for none.
    """

    exit_code = EXIT_USAGE
    hint = ""


@dataclass(frozen=True)
class FieldViolation:
    """One wrong field of a request: `field` is its name in the schema, `problem` what to change."""

    field: str
    problem: str


class SwapError(KnownError):
    """A request that is answered with an error. `str(error)` is shown to the requester."""


@dataclass
class InvalidRequest(SwapError):
    """The request itself is wrong; sending it again unchanged gives the same answer."""

    violations: tuple[FieldViolation, ...]

    def __str__(self) -> str:
        return "; ".join(f"{v.field}: {v.problem}" for v in self.violations)


@dataclass
class SwapNotFound(SwapError):
    """No swap has this id."""

    swap_id: str

    def __str__(self) -> str:
        return f"no swap has the id {self.swap_id}; ids are returned by CreateSwap"


@dataclass
class AssetNotOffered(SwapError):
    """The seller does not sell this asset."""

    asset_id: str

    def __str__(self) -> str:
        return f"asset {self.asset_id} is not offered here; GetOffer lists what is"


@dataclass
class RequestConflict(SwapError):
    """The request id was used before with other parameters (money rule 8)."""

    request_id: str
    fields: tuple[str, ...]
    kind: str = "swap"

    def __str__(self) -> str:
        return (
            f"request_id {self.request_id} already names a {self.kind} with another "
            f"{', '.join(self.fields)}; use a new request_id for a new {self.kind}"
        )


@dataclass
class PriceAboveCap(SwapError):
    """The price is above what the buyer said it would pay."""

    total_price_msat: int
    max_total_price_msat: int

    def __str__(self) -> str:
        return (
            f"the price is {self.total_price_msat} msat, above the max_total_price_msat of "
            f"{self.max_total_price_msat}"
        )


@dataclass
class PriceStale(SwapError):
    """The time of the price that the operator set is over; nothing is sold without a new one."""

    valid_until: int

    def __str__(self) -> str:
        return "the seller's price is out of date; try again when there is a new one"


@dataclass
class InsufficientInventory(SwapError):
    """Not enough unreserved coins. `available` is what could be reserved at that moment."""

    asset_id: str
    wanted: int
    available: int
    what: str = "asset"

    def __str__(self) -> str:
        unit = "units of the asset" if self.what == "asset" else "sat of L-BTC for fees and subsidy"
        return (
            f"not enough inventory: {self.wanted} {unit} wanted, {self.available} available; "
            "ask for less or try again when other swaps have ended"
        )


@dataclass
class NotWithdrawable(SwapError):
    """The wallet does not hold so much that nothing else needs. `available` could be withdrawn."""

    asset_id: str
    wanted: int
    available: int
    reason: str

    def __str__(self) -> str:
        return (
            f"cannot withdraw {self.wanted} of {self.asset_id}: {self.available} can be withdrawn; "
            f"{self.reason}"
        )


@dataclass
class TooManyAddresses(SwapError):
    """So many receive addresses in a row were given out and none of them was paid."""

    unused: int

    def __str__(self) -> str:
        return (
            f"the last {self.unused} receive addresses were never paid: use one of them; "
            "a wallet restored from its mnemonic looks no further than that"
        )


@dataclass
class TooManySwaps(SwapError):
    """The limit on unfinished swaps is reached."""

    limit: int

    def __str__(self) -> str:
        return f"{self.limit} swaps are unfinished, which is the limit here; try again later"


@dataclass
class NotPaidUnclaimed(SwapError):
    """Only a swap that was paid and not claimed by the lock height can be refunded by hand."""

    swap_id: str
    state: str

    def __str__(self) -> str:
        return (
            f"swap {self.swap_id} is {self.state}: only a paid, unclaimed swap past its lock "
            "height can be refunded by hand; the daemon refunds the rest"
        )


@dataclass
class SlowReader(SwapError):
    """A watcher takes its messages too slowly."""

    write_secs: float

    def __str__(self) -> str:
        return (
            f"no message was taken for {self.write_secs:g} s; "
            "call again with the number of the last event"
        )


@dataclass
class NotReady(SwapError):
    """The daemon cannot take new swaps at this moment; nothing was stored.

    `retry_after_secs` is a hint for the client.
    """

    reason: str
    retry_after_secs: float = 5.0

    def __str__(self) -> str:
        return f"{self.reason}; try again in {self.retry_after_secs:g} s"


@dataclass
class SettingsError(KnownError):
    """Settings that cannot be read or are not safe. Shown to the operator at start."""

    problems: tuple[str, ...]
    hint: str = field(default="`lnliquid serve --help` lists every setting")

    def __str__(self) -> str:
        return "\n".join(self.problems)


class BackendError(KnownError):
    """A call to a node did not give an answer that can be used. `backend` names the node."""

    exit_code = EXIT_UNAVAILABLE

    def __init__(self, backend: str, message: str) -> None:
        super().__init__(f"{backend}: {message}")
        self.backend = backend
        self.message = message


class BackendUnavailable(BackendError):
    """The request was not carried out: there is no connection, or the node refused to listen."""


class BackendTimeout(BackendError):
    """No answer in time. Whether the request was carried out is *unknown*: look, do not assume."""


class BackendRejected(BackendError):
    """The node answered with an error. `code` is the node's own code, None where it has none."""

    def __init__(self, backend: str, message: str, code: int | None = None) -> None:
        super().__init__(backend, message)
        self.code = code


class StoreFailure(KnownError):
    """The database did not commit: disk full, locked by another process, damaged.

    Nothing of the write is there afterwards, and it may be tried again.
    """


class ReplicaFailure(StoreFailure):
    """The replica lacks commits: what needs it has to wait. What was written is in the database."""
