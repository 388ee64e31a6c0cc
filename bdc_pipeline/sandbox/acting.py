"""How a change that was asked for by name is done, the same for all sources.

What belongs here is finding the action and telling what is wrong with the asking; what the actions do belongs to each source's
`changes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def act(
    actions: Mapping[str, Callable[..., Any]],
    action: str,
    arguments: Mapping[str, Any],
    *,
    moment: Callable[[Any], int] | None = None,
    further: Sequence[str] = (),
) -> Any:
    """Do what a control endpoint asks for: call the action of this name, with `id` as its `identifier`.

    Args:
        actions: what can be done, by name.
        action: what is asked for.
        arguments: as they came.
        moment: reads the argument `at`, where actions take one.
        further: names of actions that are done elsewhere, for the message.

    Raises:
        ValueError: there is no such action, or it does not take these arguments.
    """
    if action not in actions:
        raise ValueError(f"There is no change {action!r}. There are: {', '.join((*actions, *further))}.")
    given = dict(arguments)
    if "id" in given:
        given["identifier"] = given.pop("id")
    if moment is not None and "at" in given:
        given["at"] = moment(given["at"])
    try:
        return actions[action](**given)
    except TypeError as error:
        raise ValueError(f"The change {action!r} does not take these arguments: {error}.") from None
