"""The selection functions against numpy and explicit matrices."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpfgvc.model.selection import class_attention, keep_tokens, top_patches

BATCH, HEADS, TOKENS, DEPTH = 2, 3, 11, 5


@st.composite
def scores_and_counts(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Scores without ties (whose order would be anyone's), and how many to keep."""
    batch, patches = draw(st.integers(1, 4)), draw(st.integers(1, 17))
    count = draw(st.integers(1, patches))
    distinct = st.floats(0, 8, width=32)
    rows = [draw(arrays(np.float32, patches, elements=distinct, unique=True)) for _ in range(batch)]
    return np.stack(rows), count


@settings(max_examples=60, deadline=None)
@given(scores_and_counts())
def test_top_patches_equal_numpys_sort(case: tuple[np.ndarray, int]) -> None:
    scores, count = case
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    assert top_patches(torch.from_numpy(scores), count).tolist() == expected.tolist()


def test_class_attention_is_the_first_row_of_the_full_softmax_summed_over_heads() -> None:
    generator = torch.Generator().manual_seed(0)
    queries = 2 * torch.randn(BATCH, HEADS, TOKENS, DEPTH, generator=generator)
    keys = torch.randn(BATCH, HEADS, TOKENS, DEPTH, generator=generator)
    matrix = torch.einsum("bhqd,bhkd->bhqk", queries, keys).mul(0.7).double().exp()
    matrix = matrix / matrix.sum(dim=-1, keepdim=True)
    scores = class_attention(queries[:, :, :1], keys, scale=0.7)
    assert scores.shape == (BATCH, TOKENS)
    torch.testing.assert_close(scores.double(), matrix[:, :, 0].sum(dim=1), atol=1e-6, rtol=0)


def test_class_attention_keeps_its_precision_under_autocast() -> None:
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(BATCH, HEADS, 1, 32, generator=generator).bfloat16()
    keys = torch.randn(BATCH, HEADS, TOKENS, 32, generator=generator).bfloat16()
    expected = class_attention(query.float(), keys.float(), scale=1.3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = class_attention(query, keys, scale=1.3)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, expected, atol=1e-6, rtol=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.data())
def test_keep_tokens_keeps_the_prefix_and_the_chosen_in_order(prefix: int, patches: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, patches))
    kept = [data.draw(st.permutations(range(patches)))[:count] for _ in range(BATCH)]
    tokens = torch.arange(BATCH * (prefix + patches) * 3.0).reshape(BATCH, prefix + patches, 3)
    survivors = keep_tokens(tokens, torch.tensor(kept), prefix=prefix)
    for image in range(BATCH):
        expected = [tokens[image, index].tolist() for index in range(prefix)]
        expected += [tokens[image, prefix + index].tolist() for index in kept[image]]
        assert survivors[image].tolist() == expected


def test_the_gradient_of_kept_tokens_reaches_them_alone() -> None:
    tokens = torch.zeros(1, 6, 2, requires_grad=True)
    keep_tokens(tokens, torch.tensor([[3, 0]]), prefix=2).sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[0, :, 0].tolist() == [1, 1, 1, 0, 0, 1]
