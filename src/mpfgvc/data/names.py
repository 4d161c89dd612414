"""How a class is named: the one place where names are tidied or compared.

Official datasets write names for file systems, `001.Black_footed_Albatross`; they are turned
into the words that a prompt needs. Names of one's own folders and tables are data and stay as
they are: `apple_pie` may be what other programs of the user call that class.

All names are in one Unicode form, NFC: macOS writes the accents of folder names as characters of their own, a
keyboard does not. Two names of one dataset that look the same would be two classes by mistake: in different
forms, or with invisible spaces. They are refused. Names that differ only in capitals can be meant, so they are noted.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from mpfgvc.errors import DataError

_INVISIBLE = frozenset("\u00ad\u200b\u200e\u200f\u2060\ufeff")
"""Soft hyphens, spaces without width, marks of direction, byte order marks."""


def bird_name(folder: str) -> str:
    """CUB: `001.Black_footed_Albatross` is `Black footed Albatross`."""
    return re.sub(r"^[0-9]+\.", "", folder).replace("_", " ")


def nabird_name(name: str) -> str:
    """NABirds: `Common Eider (Adult male )` is `Common Eider (Adult male)`."""
    return " ".join(name.split()).replace(" )", ")")


def dish_name(folder: str) -> str:
    """Food-101: `apple_pie` is `apple pie`."""
    return folder.replace("_", " ")


def breed_name(folder: str) -> str:
    """Stanford Dogs: `n02085620-Japanese_spaniel` is `Japanese spaniel`."""
    return folder.partition("-")[2].replace("_", " ") or folder


def composed(name: str) -> str:
    """The name in the Unicode form NFC, which all class names and groups of a dataset have."""
    return unicodedata.normalize("NFC", name)


def look(name: str) -> str:
    """What two names share if they look the same: composed Unicode, single spaces, nothing invisible."""
    seen = "".join(letter for letter in name if letter not in _INVISIBLE)
    return " ".join(composed(seen).split())


def refuse_lookalikes(dataset: str, names: Sequence[str]) -> None:
    """Refuse two names that look the same, with a DataError that spells both out."""
    for first, *others in _groups(names, look):
        if others:
            raise DataError(
                f"{dataset}: class names must look different, got {first!a} and {others[0]!a}, "
                "which differ only in spaces or Unicode form; merge the two classes"
            )


def capitals_notes(names: Sequence[str]) -> tuple[str, ...]:
    """A note on each group of names that differ only in capitals."""
    groups = [group for group in _groups(names, lambda name: look(name).casefold()) if len(group) > 1]
    return tuple(f"classes that differ only in capitals: {', '.join(group)}" for group in groups)


def similar_names(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of names that differ only in case, accents, spaces, punctuation or plural: perhaps one class."""
    return tuple(tuple(group) for group in _groups(names, _gist) if len(group) > 1)


def _gist(name: str) -> str:
    """What is left of a name without case, accents, spaces, punctuation and the endings of plurals."""
    decomposed = unicodedata.normalize("NFKD", look(name).casefold())
    letters = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    words = re.findall(r"[^\W_]+", letters)
    return "".join(_singular(word) for word in words) or name


def _singular(word: str) -> str:
    """An English word without the ending of a plural, roughly: it is only compared."""
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and re.search(r"(ch|sh|x|z|ss)es$", word):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _groups(names: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[key(name)].append(name)
    return list(groups.values())
