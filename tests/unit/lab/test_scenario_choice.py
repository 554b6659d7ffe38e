"""Which scenarios `lnlab scenario run` plays on which nodes."""

import pytest

from lnlab.scenarios.catalogue import SCENARIOS
from lnlab.scenarios.runner import chosen
from lnlab.scenarios.sale import ScenarioError


def test_what_these_nodes_cannot_play_is_refused_by_name() -> None:
    """In one line that says which nodes can, before any lab starts."""
    with pytest.raises(ScenarioError) as refusal:
        chosen(["sale", "containers"], "embedded")
    text = str(refusal.value)
    assert text == "embedded nodes cannot play containers: only with `--nodes compose`"


def test_without_names_all_that_fit_are_played() -> None:
    """Everything that this host can play; without containers all but what needs them."""
    for kind in ("embedded", "process", "compose"):
        able = {
            one.name
            for one in SCENARIOS.values()
            if one.why_not() is None and one.only_on in (None, kind)
        }
        assert {one.name for one in chosen([], kind)} == able
    assert SCENARIOS["containers"].only_on == "compose"
