"""`predict` on real photographs against the bare model on tensors that are ready: what does decoding cost?

    python benchmarks/predict_throughput.py RUN ../shared/data/CUB_200_2011/images

RUN is a run of ViT-tiny at 224 px. Both see every photograph once, with the same network, packed for
the CPU. On a CPU of fewer than four cores `predict` decodes on the model's own threads between two
batches, as a loader process would push them aside (LOG.md).
"""

import sys

import torch

from mpfgvc.data.images import read_image
from mpfgvc.inference.predictor import Predictor, find_images
from side_by_side import compare_time, report

BATCH = 32


def main() -> None:
    predictor = Predictor.from_pretrained(sys.argv[1], device="cpu")
    paths = find_images(sys.argv[2:])
    images = [read_image(path, at_least=predictor.transform.at_least) for path in paths]
    ready = torch.stack([predictor.transform(image) for image in images]).split(BATCH)

    @torch.inference_mode()
    def bare() -> None:
        for pixels in ready:
            predictor.network(pixels).logits.softmax(dim=-1)

    def ours() -> None:
        assert sum(1 for _ in predictor.predict_files(paths, batch_size=BATCH)) == len(paths)

    claim = f"predict, {len(paths)} photographs, against the bare model"
    report("predict_throughput", [compare_time(claim, ours=ours, reference=bare, wanted=0.85)])


if __name__ == "__main__":
    main()
