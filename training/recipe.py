"""What a person asks to be trained, held to the bounds of a bundle before anything costly happens.

Enters: options of a command. Leaves: a recipe. Does not know: candles, files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from models.errors import CandlewickError

if TYPE_CHECKING:
    from training.train import Recipe


class Asked(Protocol):
    """Options of whoever trains."""

    @property
    def network(self) -> str: ...  # noqa: D102
    @property
    def hidden(self) -> int: ...  # noqa: D102
    @property
    def layers(self) -> int: ...  # noqa: D102
    @property
    def members(self) -> int: ...  # noqa: D102
    @property
    def lookback(self) -> int: ...  # noqa: D102 - bars
    @property
    def horizon(self) -> int: ...  # noqa: D102 - bars
    @property
    def epochs(self) -> int: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


def recipe_of(asked: Asked) -> Recipe:
    """Turn options into a recipe.

    Raises:
        CandlewickError: one is out of bounds; the message names it.
    """
    import msgspec

    from models.spec import MAX_LOOKBACK_BARS, Network

    bounds = {"lookback": (1, MAX_LOOKBACK_BARS), "horizon": (1, 1_440), "epochs": (1, 10_000), "seed": (0, 2**53)}
    for name, (least, most) in bounds.items():
        if not least <= getattr(asked, name) <= most:
            raise CandlewickError(f"--{name} {getattr(asked, name)} must lie between {least} and {most:,}")
    shape: dict[str, str | int] = {"kind": asked.network, "hidden": asked.hidden, "layers": asked.layers}
    if asked.members != 1:
        shape["members"] = asked.members
    try:
        network = msgspec.convert(shape, Network)
    except msgspec.ValidationError as error:
        raise CandlewickError(f"--network, --hidden, --layers or --members is wrong: {error}") from error
    from training.train import Recipe

    return Recipe(network, asked.epochs, asked.seed)
