"""The names of characters, for Python programs."""

import unicodedata


def name(code: int) -> str:
    """The Unicode name of the character with this code; ValueError where it has none."""
    return unicodedata.name(chr(code))
