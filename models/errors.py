"""The errors that have a meaning of their own; everything else is a broken invariant and ends the process."""

from __future__ import annotations


class CandlewickError(Exception):
    """Something a person can mend; the message says how. Shown without a traceback."""

    exit_code = 1  # of the process that it ends


class InvalidMessage(CandlewickError):  # noqa: N818 - it is a verdict on a record, which becomes a dead letter
    """A record that can never be used. It becomes a dead letter with this reason; the stream goes on."""


class InvalidBundle(CandlewickError):  # noqa: N818 - as above, a verdict
    """A bundle that must not serve: wrong hash, foreign spec, wrong shapes, non-finite weights, other output."""
