"""Functions of numbers and arrays as machine code, made once a machine and kept on disk.

Enters: a function and the types of its arguments. Leaves: the same function, a hundred times as fast. Does not know:
what it computes.

numba is imported, and compiles, when the first of them is called, or made ready: that takes a dozen seconds the first
time on a machine, and one later. What is kept on disk belongs to the one file the function stands in: helpers that it
calls stand in that file too, or a change of theirs would go unnoticed.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import update_wrapper
from threading import Lock
from typing import Any, TypeAlias

import numpy as np

Function: TypeAlias = Callable[..., Any]
U = np.uint64
"""What an inner loop counts with: a signed index might be negative, which numba looks out for at every access, and no
two bytes are then copied at once. That is a factor of 70 for a text of 400 bytes."""

_OPTIONS = {"error_model": "numpy"}
_lock = Lock()
logger = logging.getLogger(__name__)


class Compiled:
    """A function that is compiled for one signature alone, and lets go of the interpreter's lock while it runs.

    Indices are not checked: it must know that it stays within its arrays. `NUMBA_BOUNDSCHECK=1` checks them.
    """

    def __init__(self, function: Function, signature: str) -> None:
        self._function = function
        self._signature = signature
        self._ready: Function | None = None
        update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        """Run it; compile it first where nobody has."""
        return (self._ready or self.make_ready())(*arguments)

    def make_ready(self) -> Function:
        """Compile it, or fetch it from disk; again, it does nothing."""
        with _lock:
            if self._ready is None:
                _make_helpers_ready(self._function.__module__)
                self._ready = self._compile()
            return self._ready

    def _compile(self) -> Function:
        from numba import njit

        try:
            done: Function = njit(self._signature, cache=True, nogil=True, **_OPTIONS)(self._function)
        except Exception as error:  # nowhere to keep it, or what was kept is damaged; a fault of ours comes again below
            if "cannot cache" not in str(error):
                logger.warning(
                    "kept machine code is of no use function=%s error=%r; mend: delete the *.nbi and *.nbc files in "
                    "__pycache__ beside its source", self._function.__qualname__, error,
                )  # fmt: skip
            done = njit(self._signature, nogil=True, **_OPTIONS)(self._function)
        return done


def compiled(signature: str) -> Callable[[Function], Compiled]:
    """Have a function compiled when it is needed, for these types alone."""
    return lambda function: Compiled(function, signature)


def helper(function: Function) -> Function:
    """A function that only compiled ones of its own file call; it is compiled into them."""
    function.is_helper = True  # type: ignore[attr-defined]
    return function


def _make_helpers_ready(module_name: str) -> None:
    """numba wants to know them as its own before it compiles what calls them."""
    from numba import njit

    module = sys.modules[module_name]
    for name, value in list(vars(module).items()):
        if callable(value) and getattr(value, "is_helper", False) and not hasattr(value, "py_func"):
            setattr(module, name, njit(**_OPTIONS)(value))
