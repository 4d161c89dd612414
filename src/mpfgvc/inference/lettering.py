"""Text of any script on a picture: each character from a font that has it, or as its escape `\\u9d2d`.

Pillow's own font holds little more than ASCII. The system's fonts are asked, too: a few common
ones by name, and fontconfig for what these lack. A character that no font has, and one that has no
shape of its own (a line feed, a change of direction), is written as its escape, never as a box.
"""

import shutil
import subprocess
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "Arial.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "YuGothR.ttc",
    "msyh.ttc",
    "malgun.ttf",
)
"""Fonts of Linux, macOS and Windows that are tried first, in this order."""
_ABSENT = "\U0010fffe"  # a code point that no font has: it shows what a font draws in place of a character


class Lettering:
    """Letters of one size in pixels, from the first of some font files that has each of them.

    `files` None = the system's fonts. Pillow's own font comes last.
    """

    def __init__(self, size: int, *, files: Sequence[str] | None = None):
        self.size, self.searches = size, files is None
        names = SYSTEM_FONTS if files is None else files
        loaded = [font for name in names if (font := _load(name, size)) is not None]
        self.fonts: list[Font] = [*loaded, ImageFont.load_default(size)]
        self.known: dict[str, tuple[Font, str]] = {}

    def width(self, text: str) -> float:
        """Width in pixels of a text on one line."""
        return sum(font.getlength(part) for font, part in self._parts(text))

    def draw(self, pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, *, fill: str) -> None:
        """Write a text on one line; `place` is (left, top)."""
        left, baseline = place[0], place[1] + self.size
        for font, part in self._parts(text):
            if isinstance(font, ImageFont.FreeTypeFont):
                pen.text((left, baseline), part, fill=fill, font=font, anchor="ls")
            else:
                pen.text((left, place[1]), part, fill=fill, font=font)
            left += font.getlength(part)

    def shown(self, text: str) -> str:
        """The text as it is written: in composed characters, with escapes for what cannot be drawn."""
        return "".join(part for _, part in self._parts(text))

    def cut_start(self, text: str, width: float) -> str:
        """The text, or its end behind three dots where it is wider than `width`."""
        return self._cut(text, width, [f"...{text[start:]}" for start in range(len(text) + 1)])

    def cut_end(self, text: str, width: float) -> str:
        """The text, or its start and three dots where it is wider than `width`."""
        return self._cut(text, width, [f"{text[:end]}..." for end in range(len(text), -1, -1)])

    def _cut(self, text: str, width: float, shorter: list[str]) -> str:
        """The first text that fits, by halving; `shorter` is in falling order of width."""
        if self.width(text) <= width:
            return text
        low, high = 0, len(shorter) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.width(shorter[middle]) <= width else (middle + 1, high)
        return shorter[low]

    def _parts(self, text: str) -> Iterator[tuple[Font, str]]:
        """Runs of characters of one font, as they are written."""
        letters = [self._letter(character) for character in unicodedata.normalize("NFC", text)]
        for _, run in groupby(letters, key=lambda letter: id(letter[0])):
            fonts, parts = zip(*run, strict=True)
            yield fonts[0], "".join(parts)

    def _letter(self, character: str) -> tuple[Font, str]:
        if character not in self.known:
            self.known[character] = self._find(character)
        return self.known[character]

    def _find(self, character: str) -> tuple[Font, str]:
        if character == " ":
            return self.fonts[0], character
        if unicodedata.category(character)[0] not in "CZ":
            for font in self.fonts:
                if _has(font, character):
                    return font, character
            found = _load(_file_with(character), self.size) if self.searches else None
            if found is not None and _has(found, character):
                self.fonts.insert(-1, found)
                return found, character
        return self.fonts[0], _escape(character)


@cache
def lettering(size: int) -> Lettering:
    """The system's letters of a size in pixels."""
    return Lettering(size)


def _load(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size) if name else None
    except (OSError, ValueError):  # not here; or a font of pictures, which has one size only
        return None


def _has(font: Font, character: str) -> bool:
    """Whether a font draws this character otherwise than one that it lacks."""
    try:
        return _shape(font, character) != _shape(font, _ABSENT)
    except (UnicodeError, OSError, ValueError):
        return False


def _shape(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@cache
def _file_with(character: str) -> str:
    """The file of a font that fontconfig finds for a character; empty if it finds none."""
    program = shutil.which("fc-match")
    if program is None:
        return ""
    words = [program, "--format=%{file}", f":charset={ord(character):x}"]
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired, UnicodeError):
        return ""


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
