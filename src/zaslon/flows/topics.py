"""Topics: made with the right settings, or checked."""

from __future__ import annotations

from zaslon.domain.errors import ZaslonError, did_you_mean
from zaslon.flows.context import Context
from zaslon.ports import TopicState

_ACTIONS = ("create", "check")


def make_or_check(context: Context, action: str) -> list[TopicState]:
    """`create` what is missing, or only `check`; either way tell how every topic is.

    Raises:
        ZaslonError: another action.
        ServerError: the broker cannot be reached or refuses us.
    """
    if action not in _ACTIONS:
        raise ZaslonError(f"'{action}' is nothing to do with topics.", hint=did_you_mean(action, _ACTIONS))
    topics = context.adapters.open_topics()
    return topics.create() if action == "create" else topics.check()
