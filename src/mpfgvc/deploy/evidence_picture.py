"""Evidence as a picture: what each kept patch says, by a sign, a frame and a color, with a legend.

Patches that speak for the answer are green with a plus, those that speak for the runner-up orange with a
minus. The larger the sign, the more the patch says; so nothing rests on color alone.
"""

from PIL import Image, ImageDraw

from mpfgvc.deploy.served_model import Explained, PatchEvidence
from mpfgvc.inference.lettering import lettering

SIDE = 480
"""Longer side of the photograph in pixels."""
FOR, AGAINST = "#0a7d3c", "#c25400"
_GAP, _LINE, _LETTERS = 12, 22, 14
_LEAST = 0.05  # of the largest change; a patch that says less has no sign


def draw_evidence(seen: Image.Image, explained: Explained) -> Image.Image:
    """The photograph as the model sees it with the evidence drawn on it, and the legend below.

    `explained.evidence` must be there.
    """
    evidence = explained.evidence
    if evidence is None:
        raise ValueError("a model of one class has no evidence")
    factor = SIDE / max(seen.size)
    photograph = seen.resize(
        (round(seen.width * factor), round(seen.height * factor)), Image.Resampling.BICUBIC
    )
    sheet = Image.new("RGB", (photograph.width + 2 * _GAP, photograph.height + 3 * _LINE + _GAP), "white")
    sheet.paste(photograph, (_GAP, _GAP))
    pen = ImageDraw.Draw(sheet)
    _draw_patches(pen, photograph.size, explained, evidence)
    top = photograph.height + _GAP + 4
    for place, (color, sign, name) in enumerate(
        ((FOR, "+", evidence.answer), (AGAINST, "−", evidence.against))
    ):
        line = lettering(_LETTERS).cut_end(f"{sign} speaks for {name}", photograph.width)
        lettering(_LETTERS).draw(pen, (_GAP, top + place * _LINE), line, fill=color)
    return sheet


def below(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """Two pictures, one below the other, on white."""
    sheet = Image.new("RGB", (max(upper.width, lower.width), upper.height + lower.height), "white")
    sheet.paste(upper, (0, 0))
    sheet.paste(lower, (0, upper.height))
    return sheet


def _draw_patches(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], explained: Explained, evidence: PatchEvidence
) -> None:
    rows, columns = explained.attention.shape
    width, height = size[0] / columns, size[1] / rows
    largest = max(map(abs, evidence.change)) or 1.0
    for (row, column), change in zip(explained.kept, evidence.change, strict=True):
        share = abs(change) / largest
        if share < _LEAST:
            continue
        color = FOR if change > 0 else AGAINST
        left, top = _GAP + column * width, _GAP + row * height
        pen.rectangle((left + 1, top + 1, left + width - 1, top + height - 1), outline=color, width=2)
        reach = (0.14 + 0.3 * share) * min(width, height)
        _draw_sign(pen, (left + width / 2, top + height / 2), reach, color, plus=change > 0)


def _draw_sign(
    pen: ImageDraw.ImageDraw, centre: tuple[float, float], reach: float, color: str, *, plus: bool
) -> None:
    """A white plus or minus on a disc."""
    x, y = centre
    pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=color, outline="white", width=1)
    stroke, thickness = 0.6 * reach, max(1, round(0.3 * reach))
    pen.line((x - stroke, y, x + stroke, y), fill="white", width=thickness)
    if plus:
        pen.line((x, y - stroke, x, y + stroke), fill="white", width=thickness)
