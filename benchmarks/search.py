"""The nearest of 50,000 embeddings of width 768: the product in NumPy beside faiss's exact index.

    python benchmarks/search.py          faiss-cpu must be installed

Both find the 5 nearest of one photograph, by cosine, on the same two threads. Writes results/search.json.
"""

import faiss
import numpy as np

from mpfgvc.inference.embeddings import EmbeddingIndex, EmbeddingTable, unit_rows
from side_by_side import compare_time, report

PHOTOGRAPHS, WIDTH, TOP = 50_000, 768, 5


def main() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(PHOTOGRAPHS, WIDTH)).astype(np.float32)
    query = generator.normal(size=(1, WIDTH)).astype(np.float32)
    nothing = (None,) * PHOTOGRAPHS
    paths = tuple(map(str, range(PHOTOGRAPHS)))
    ours = EmbeddingIndex(EmbeddingTable(paths=paths, labels=nothing, splits=nothing, values=values))
    reference = faiss.IndexFlatIP(WIDTH)
    reference.add(unit_rows(values))
    ((*found,),) = ours.nearest(query, top=TOP)
    assert len(found) == TOP
    assert [int(each.path) for each in found] == reference.search(unit_rows(query), TOP)[1][0].tolist()
    claim = f"the {TOP} nearest of {PHOTOGRAPHS:,} embeddings of width {WIDTH}, against faiss (flat)"
    row = compare_time(
        claim,
        ours=lambda: ours.nearest(query, top=TOP),
        reference=lambda: reference.search(unit_rows(query), TOP),
        wanted=1.0,
        turns=25,
    )
    report("search", [row])


if __name__ == "__main__":
    main()
