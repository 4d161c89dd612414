"""What stage 1 starts from: batches of embeddings as one long epoch."""

import torch

from mpfgvc.training.embedding_batches import EmbeddingLoader
from mpfgvc.training.feature_start import OneLongEpoch, batch_size_of


def _batches(first_step: int) -> list[torch.Tensor]:
    embeddings = torch.arange(10.0)[:, None]
    loader = EmbeddingLoader(embeddings, torch.arange(10), batch_size=4, seed=5)
    return [values for values, _ in OneLongEpoch(loader, steps=7).epoch(0, first_step)]


def test_one_long_epoch_has_as_many_steps_as_it_says() -> None:
    assert len(_batches(0)) == 7


def test_one_long_epoch_goes_on_where_it_was_left() -> None:
    whole = _batches(0)
    for step in (1, 2, 5):
        rest = _batches(step)
        assert len(rest) == 7 - step
        assert all(torch.equal(*pair) for pair in zip(rest, whole[step:], strict=True))


def test_its_parts_differ() -> None:
    first, third = _batches(0)[0], _batches(0)[2]
    assert not torch.equal(first, third)


def test_a_batch_is_a_power_of_two_that_the_photographs_fill() -> None:
    assert [batch_size_of(count) for count in (1, 27, 32, 511, 512, 5000)] == [1, 16, 32, 256, 512, 512]
