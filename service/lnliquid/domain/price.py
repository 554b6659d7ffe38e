"""The price of an asset: from the settings, or as the operator set it last. Pure."""

from dataclasses import dataclass

from lnliquid.domain.errors import PriceStale


@dataclass(frozen=True, slots=True)
class Price:
    """msat for one asset unit. `valid_until` in unix seconds, None for no end.

    `set_at` is None for the price of the settings.
    """

    msat_per_unit: int
    valid_until: int | None = None
    set_at: int | None = None

    def is_stale(self, now: int) -> bool:
        """True when its time is over: nothing is sold until a new one comes."""
        return self.valid_until is not None and now >= self.valid_until

    def require_valid(self, now: int) -> None:
        """Raises `PriceStale` when its time is over."""
        if self.valid_until is not None and now >= self.valid_until:
            raise PriceStale(self.valid_until)
