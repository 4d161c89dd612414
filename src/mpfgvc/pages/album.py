"""The photographs of a page: small JPEGs inside it, as many as fit in a number of bytes."""

import base64
import io
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from PIL import Image

QUALITY = 70


@dataclass
class Album:
    """Photographs by a key, each of them once."""

    most_bytes: int
    """Of all the JPEGs together; in a page they take a third more."""
    side: int
    """Longer side of each, in pixels."""
    addresses: dict[Hashable, str] = field(default_factory=dict)
    """`data:` addresses for the attribute `src`, in the order in which the photographs were added."""
    size: int = 0
    left_out: set[Hashable] = field(default_factory=set)
    """Those for which there was no room."""
    unreadable: set[Hashable] = field(default_factory=set)

    def add(self, key: Hashable, draw: Callable[[], Image.Image | None]) -> bool:
        """Whether a photograph is in the album now; `draw` makes it, and gives None if it cannot be read."""
        if key in self.addresses:
            return True
        if self.size >= self.most_bytes:
            self.left_out.add(key)
            return False
        picture = draw()
        if picture is None:
            self.unreadable.add(key)
            return False
        content = jpeg(picture, self.side)
        self.size += len(content)
        self.addresses[key] = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
        return True

    def places(self) -> dict[Hashable, int]:
        """The place of each photograph in the order of `addresses`."""
        return {key: place for place, key in enumerate(self.addresses)}


def jpeg(picture: Image.Image, side: int) -> bytes:
    """A picture as JPEG, its longer side at most `side` pixels."""
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, format="JPEG", quality=QUALITY, optimize=True)
    return content.getvalue()
