"""Functions of numbers and arrays as machine code, made once a machine and kept on disk.

Enters: a function and the types of its arguments. Leaves: the same function, a hundred times as fast. Does not know:
what it computes.

numba compiles it when its module is imported, which takes seconds the first time and milliseconds later; no other
thread's work is held up by a compiler in between. What is kept on disk belongs to the one file the function stands in:
helpers that it calls stand in that file too, or a change of theirs would go unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numba import njit

Function: TypeAlias = Callable[..., Any]
U = np.uint64
"""What an inner loop counts with: a signed index might be negative, which numba looks out for at every access, and no
two bytes are then copied at once. That is a factor of 70 for a text of 400 bytes."""


def compiled(signature: str) -> Callable[[Function], Function]:
    """Compile at once, for these types alone; the function lets go of the interpreter's lock.

    Indices are not checked: a function must know that it stays within its arrays. `NUMBA_BOUNDSCHECK=1` checks them.
    """

    def compile_(function: Function) -> Function:
        options = {"nogil": True, "error_model": "numpy"}
        try:
            done: Function = njit(signature, cache=True, **options)(function)
        except RuntimeError as error:  # nowhere to keep it: neither beside the file nor in the user's cache
            if "cannot cache" not in str(error):
                raise
            done = njit(signature, **options)(function)
        return done

    return compile_


def helper(function: Function) -> Function:
    """A function that only compiled ones of its own file call; it is compiled into them."""
    done: Function = njit(error_model="numpy")(function)
    return done
