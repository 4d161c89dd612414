"""Every random choice follows from the config's seed and its own name.

Small, but not part of any wing: data, model and training all draw from here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed that every machine derives alike from some numbers and names."""
    digest = blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's CPU generator start from `seed` inside the block, and continue as before after it.

    The generators of accelerators are left alone.
    """
    import torch  # only what draws with torch pays for its import

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
