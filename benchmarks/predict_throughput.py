"""`predict` on real photographs against the bare model on prepared tensors: what does decoding cost?

    python benchmarks/predict_throughput.py RUN ../shared/data/CUB_200_2011/images

RUN is a run of ViT-tiny at 224 px. Both see every photograph once, with the same network, packed for
the CPU. On fewer than four cores `predict` decodes on the model's own threads between two batches, because
a loader process would displace them (LOG.md).
"""

import sys

import numpy as np
import torch

from common import photographs
from mpfgvc import Predictor
from mpfgvc.inference.forward import forward_in_parts
from side_by_side import compare_time, report

BATCH = 32


def main() -> None:
    predictor = Predictor.from_pretrained(sys.argv[1], device="cpu")
    paths = photographs(sys.argv[2])
    ready = torch.from_numpy(np.stack([predictor.prepare(predictor.open(path)) for path in paths])).split(BATCH)

    @torch.inference_mode()
    def bare() -> None:
        for pixels in ready:
            forward_in_parts(predictor.inference.network, pixels, predictor.inference.compute).logits.softmax(dim=-1)

    def ours() -> None:
        assert sum(1 for _ in predictor.predict_files(paths, batch_size=BATCH)) == len(paths)

    claim = f"predict, {len(paths)} photographs, against the bare model"
    report("predict_throughput", [compare_time(claim, ours=ours, reference=bare, wanted=0.85)])


if __name__ == "__main__":
    main()
