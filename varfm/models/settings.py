"""The `config.json` of a published folder, read key by key, so that nothing that changes the numbers goes unseen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from varfm.errors import ModelError

_MAX_SIZE = 10_000_000
MAX_LAYERS = 1000
"""No published network has so many; a hostile file must not keep varfm busy laying them out."""


class Settings:
    """What a file says of a network. Call `check_all_read` at the end.

    Args:
        mapping: Content of the file, or an object in it.
        path: Where it is from, for messages.
        model: What the network is called in messages.
        ignored: Keys that do not matter.
    """

    def __init__(self, mapping: Mapping[str, object], path: Path, model: str, ignored: Collection[str] = ()) -> None:
        self._mapping = mapping
        self._path = path
        self._model = model
        self._left = set(mapping) - set(ignored)

    def number(self, key: str, default: int | None = None, most: int = _MAX_SIZE) -> int:
        """Give a whole number from 1 to `most`.

        Raises:
            ModelError: If it is none, or if it is not there and has no default.
        """
        value = self._taken(key, default)
        if type(value) is not int or not 1 <= value <= most:
            raise ModelError(f"{self._path}: {key} is {value!r}, expected a whole number from 1 to {most:,}.")
        return value

    def layers(self, key: str, default: int | None = None) -> int:
        """Give a number of layers.

        Raises:
            ModelError: As `number`, and for more than any network has.
        """
        return self.number(key, default, MAX_LAYERS)

    def flag(self, key: str, default: bool) -> bool:
        """Give a truth value.

        Raises:
            ModelError: If it is none.
        """
        value = self._taken(key, default)
        if type(value) is not bool:
            raise ModelError(f"{self._path}: {key} is {value!r}, expected true or false.")
        return value

    def epsilon(self, key: str, default: float) -> float:
        """Give a small number above 0.

        Raises:
            ModelError: If it is none.
        """
        value = self._taken(key, default)
        if type(value) is not float or not 0 < value < 1:
            raise ModelError(f"{self._path}: {key} is {value!r}, expected a number between 0 and 1.")
        return value

    def table(self, key: str) -> Mapping[str, object]:
        """Give an object with names; an empty one where there is none.

        Raises:
            ModelError: If it is something else.
        """
        value = self._taken(key, None)
        if value is not None and not isinstance(value, dict):
            raise ModelError(f"{self._path}: {key} is {str(value)[:80]!r}, expected an object with names.")
        return value or {}

    def word(self, key: str, default: object = None) -> object:
        """Give a value of any kind."""
        return self._taken(key, default)

    def must_be(self, key: str, *known: object) -> None:
        """Make sure that a key is missing or has one of these values.

        Raises:
            ModelError: If it has another.
        """
        value = self._taken(key, known[0])
        if not any(type(value) is type(one) and value == one for one in known):
            raise ModelError(
                f"{self._path}: {key} is {value!r}. Of {self._model}, varfm runs networks with "
                f"{' or '.join(map(repr, known))} only."
            )

    def check_all_read(self) -> None:
        """Make sure that no key was passed over.

        Raises:
            ModelError: Naming those that nobody knows.
        """
        if self._left:
            names = ", ".join(sorted(map(str, self._left))[:3])
            raise ModelError(
                f"{self._path}: {names}: not known of {self._model}, and may change the network. "
                "Give the folder that the authors published."
            )

    def _taken(self, key: str, default: object) -> object:
        self._left.discard(key)
        return self._mapping.get(key, default)
