"""Draw benchmarks/contact_sheet.jpg: two pictures of each of the first ten classes, side by side.

python benchmarks/contact_sheet.py
"""

from PIL import Image

from common import HERE
from mpfgvc.birds.plumage import all_species
from mpfgvc.birds.scene import draw_image

SIDE, COLUMNS, CLASSES = 160, 10, 10


def main() -> None:
    sheet = Image.new("RGB", (COLUMNS * SIDE, 2 * CLASSES // COLUMNS * SIDE))
    for kind in all_species(CLASSES):
        for number in range(2):
            picture = draw_image(kind.plumage, seed=4, index=2 * kind.index + number, size=SIDE)
            row, column = divmod(2 * kind.index + number, COLUMNS)
            sheet.paste(picture, (column * SIDE, row * SIDE))
    sheet.save(HERE / "contact_sheet.jpg", quality=88)


if __name__ == "__main__":
    main()
