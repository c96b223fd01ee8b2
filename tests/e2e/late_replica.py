"""A replica of `predict` in a consumer group of its own: it reads and serves everything once more.

Run as `python -m tests.e2e.late_replica`. Only the name of the group is different from the product's own role.
"""

from __future__ import annotations

from streaming.app import run_roles
from streaming.logs import set_up
from streaming.settings import Settings

SUFFIX = "-late"


class OtherGroup(Settings):
    """The settings of the environment, but for the group."""

    def group(self, role: str) -> str:
        """The usual name, and a suffix."""
        return super().group(role) + SUFFIX


if __name__ == "__main__":
    set_up("INFO")
    run_roles(OtherGroup(), ["predict"])
