"""The bounded way from a source to its agent.

Does not know: what travels on it.
"""

from __future__ import annotations

from typing import Any

from faust.channels import Channel
from mode.utils.queues import FlowControlEvent, ThrowableQueue


class BatchChannel(Channel):
    """A Faust channel whose queue survives a rebalance: the stock one is cleared, and batches in it would be lost."""

    @property
    def queue(self) -> Any:
        """The queue itself, made when first asked for."""
        if self._queue is None:
            self._queue: Any = ThrowableQueue(
                maxsize=self.maxsize,
                flow_control=FlowControlEvent(initially_suspended=False),
                clear_on_resume=False,
            )
        return self._queue
