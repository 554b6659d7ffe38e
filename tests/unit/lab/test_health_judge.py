"""The judge of health that scenarios use: what it takes for a lie."""

import pytest

from lnlab.scenarios.health import NOTICE_SECS, RECOVERY_SECS, Health
from lnlab.scenarios.sale import ScenarioError

LATE, WELL = 100 + NOTICE_SECS + 1, 200 + RECOVERY_SECS + 1


@pytest.mark.parametrize(
    ("samples", "lie"),
    [
        ([(50, True), (101, True), (LATE, False), (205, False), (WELL, True)], None),
        ([(LATE, True)], "said ready"),
        ([(199, True)], "said ready"),
        ([(50, False)], "said not ready"),
        ([(WELL, False)], "said not ready"),
        ([], "never asked"),
    ],
)
def test_ready_is_said_when_an_order_can_be_served_and_only_then(
    samples: list[tuple[float, bool]], lie: str | None
) -> None:
    """Trouble from 100 to 200; it takes a moment to notice its beginning and its end."""
    health = Health(samples, [(100, 200, "a full disk")])
    if lie is None:
        health.judge()
    else:
        with pytest.raises(ScenarioError, match=lie):
            health.judge()
