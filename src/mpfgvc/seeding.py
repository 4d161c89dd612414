"""Derive seeds, so that every random choice follows from the config's seed and its own name alone."""

from hashlib import blake2b


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed that every machine derives alike from some numbers and names."""
    digest = blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
