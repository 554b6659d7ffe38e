"""The cases by name. A case is a function of a `World`; its first line of documentation says what
it shows. They run in the order of their rooms and, within one, in the order they are written."""

from collections.abc import Awaitable, Callable

from .world import World

Case = Callable[[World], Awaitable[None]]

CASES: dict[str, Case] = {}
"""Every case by `room/name`."""


def case(function: Case) -> Case:
    """Add a case: its room is its module, its name the function's."""
    room = function.__module__.rpartition(".")[2].removesuffix("_cases")
    CASES[f"{room}/{function.__name__}"] = function
    return function
