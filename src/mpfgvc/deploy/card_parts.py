"""What every model card says: how the model is used, what it cannot do, what to cite."""

WHAT_IT_IS = """\
Tells apart {classes} classes ({word}) on photographs. Trained with `mpfgvc` {version} by MP-FGVC, the method
of [*Delving into Multimodal Prompting for Fine-grained Visual Classification*](https://arxiv.org/abs/2309.08912)
(AAAI 2024): the image tower keeps {kept}, every class has
a learned text prompt, and the answer comes from the source *{source}*. Prediction needs no text tower and no
tokenizer."""

HOW_TO_USE = """\
## How to use

```bash
mpfgvc predict hf://{repository} photos/ --top 5
```

```python
from mpfgvc import Predictor

predictor = Predictor.from_pretrained("hf://{repository}")
for guess in predictor("photo.jpg", top=5):
    print(guess.label, f"{{guess.probability:.3f}}")
```"""

REPEAT = """\
The same training, with `config.yaml` of this repository:

```bash
mpfgvc train --config ./config.yaml{data}
```"""

LIMITS = """\
## Limits

- The classes are closed: any photograph gets one of them, also one that shows none.
- Probabilities are not calibrated. A high one is no proof.
- Photographs unlike those of the training (another camera, season or place, a drawing) may be recognised less
  well than the figures above say.
- Biases of the pretrained towers and of the photographs are in the model."""

CITATION = """\
## How to cite

```bibtex
@inproceedings{jiang2024mpfgvc,
  title     = {Delving into Multimodal Prompting for Fine-grained Visual Classification},
  author    = {Jiang, Xin and Tang, Hao and Gao, Junyao and Du, Xiaoyu and He, Shengfeng and Li, Zechao},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume    = {38},
  number    = {3},
  pages     = {2570--2578},
  year      = {2024},
  doi       = {10.1609/aaai.v38i3.28034},
  eprint    = {2309.08912},
  archiveprefix = {arXiv}
}
```"""
