"""Topics: made with the right settings, or checked."""

from __future__ import annotations

from collections.abc import Callable

from zaslon.domain.errors import ZaslonError, did_you_mean
from zaslon.ports.streams import Topics, TopicState

_ACTIONS = ("create", "check")


def make_or_check(open_topics: Callable[[], Topics], action: str) -> list[TopicState]:
    """`create` what is missing, or only `check`; either way return the state of every topic.

    Raises:
        ZaslonError: another action.
        ServerError: the broker cannot be reached or refuses us.
    """
    if action not in _ACTIONS:
        raise ZaslonError(f"'{action}' is not an action on topics.", hint=did_you_mean(action, _ACTIONS))
    topics = open_topics()
    return topics.create() if action == "create" else topics.check()
