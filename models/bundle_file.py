"""A bundle's file as a person names it: whole and readable, or a message that says how to get one that is.

Enters: a path. Leaves: a checked bundle. Does not know: what it is wanted for.
"""

from __future__ import annotations

from pathlib import Path

from models.bundle import Bundle, load
from models.errors import CandlewickError, InvalidBundle


def read_bundle(file: Path) -> Bundle:
    """Read and check the file of a bundle; one that is named like a hash must have it.

    Raises:
        CandlewickError: it is no bundle, or cannot be read; the message names the file and the mend.
    """
    try:
        return load(file)
    except InvalidBundle as error:
        raise CandlewickError(
            f"{file} is no bundle that can be used: {error}. Give a <sha256>.safetensors that candlewick train wrote, "
            "copied whole"
        ) from error
    except OSError as error:
        raise CandlewickError(f"{file} cannot be read ({error.strerror}); name the file of a bundle") from error
