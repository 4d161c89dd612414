"""Put the pretrained towers into the package, measure them, and write the card's table.

    python pretraining/finish.py runs/pretraining

Writes src/mpfgvc/weights/birds_{image,text}.safetensors, pretraining/log.csv and the
part of pretraining/CARD.md between its two marks.
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save

from mpfgvc.birds.plumage import ATTRIBUTES, all_species
from mpfgvc.config import ImageTowerConfig, TextTowerConfig
from mpfgvc.files import make_folder, write_bytes, write_text
from mpfgvc.model.image_encoder import ImageEncoder
from mpfgvc.model.towers.image_tower import build_image_tower
from mpfgvc.model.towers.names import BUNDLED
from mpfgvc.model.towers.text_tower import build_text_tower
from pretrain import Towers
from zero_shot import all_sentences, attribute_accuracy, class_accuracy

HERE = Path(__file__).parent
WEIGHTS = HERE.parent / "src" / "mpfgvc" / "weights"
MARKS = ("<!-- measured -->\n", "<!-- end -->")
PICTURES = 4000


def main() -> None:
    """Export the towers, load them as a user would, measure them."""
    run = Path(sys.argv[1])
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    towers = Towers()
    towers.load_state_dict(state["towers"])
    _export(towers)
    shutil.copy(run / "log.csv", HERE / "log.csv")
    encoder = ImageEncoder(tower=build_image_tower(ImageTowerConfig(name="mpfgvc-birds")), kept_tokens=None)
    text_tower = build_text_tower(TextTowerConfig(name="mpfgvc-birds", pretrained=BUNDLED))
    accuracies = attribute_accuracy(encoder.eval(), text_tower, PICTURES)
    lines = [f"{state['step']} steps. {PICTURES} pictures of the benchmark's 200 classes.", ""]
    lines += ["| attribute | values | chance % | zero-shot % |", "| --- | --- | --- | --- |"]
    for name, accuracy in accuracies.items():
        chance = 100 / len(ATTRIBUTES[name])
        lines.append(f"| {name} | {len(ATTRIBUTES[name])} | {chance:.1f} | {100 * accuracy:.1f} |")
    for count in (30, 200):
        accuracy = class_accuracy(encoder, text_tower, all_species(count), PICTURES)
        lines.append(f"| class, by its sentences | {count} | {100 / count:.1f} | {100 * accuracy:.1f} |")
    print("\n".join(lines))
    card = (HERE / "CARD.md").read_text()
    head, _, rest = card.partition(MARKS[0])
    tail = rest.partition(MARKS[1])[2]
    write_text(HERE / "CARD.md", head + MARKS[0] + "\n".join(lines) + "\n" + MARKS[1] + tail)


def _export(towers: Towers) -> None:
    make_folder(WEIGHTS)
    image = towers.image_encoder.tower.transformer.state_dict()
    write_bytes(WEIGHTS / "birds_image.safetensors", save({k: v.contiguous() for k, v in image.items()}))
    text_tower = towers.text_tower
    words = {text_tower.start, text_tower.end}
    for sentence in [*all_sentences(), "a bird with , ,"]:
        words |= set(text_tower.token_ids(sentence))
    text, kept = text_tower.transformer.state_dict(), torch.tensor(sorted(words))
    rows = text["token_embedding.weight"][kept].clone()  # all the other words were never trained
    text |= {"token_embedding.weight": rows, "token_embedding.ids": kept}
    write_bytes(WEIGHTS / "birds_text.safetensors", save({k: v.contiguous() for k, v in text.items()}))
    sizes = [file.stat().st_size / 1e6 for file in sorted(WEIGHTS.glob("*.safetensors"))]
    print("MB in the package:", " + ".join(f"{size:.1f}" for size in sizes))


if __name__ == "__main__":
    main()
