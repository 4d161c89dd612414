"""The headers of all photographs, before the first step."""

import os

import pytest

from mpfgvc.config import BirdsConfig
from mpfgvc.data.inspection import Header, check_headers, photo_digest
from mpfgvc.data.readers.birds import read_birds
from mpfgvc.errors import DataError


def test_each_photograph_has_its_size_and_digest_and_drawn_birds_have_no_file(samples):
    headers = check_headers(samples, "raise")
    path = samples[3].path
    assert headers.found[path] == Header(height=30, width=40, digest=photo_digest(path))
    assert (len(headers.found), headers.broken) == (11, {})
    assert check_headers(read_birds(BirdsConfig(species=2, train=1, test=1)).samples, "raise").found == {}


def test_the_first_broken_file_ends_the_check_with_the_count_unless_skipping_is_asked(samples):
    samples[4].path.write_text("not found")
    samples[7].path.unlink()
    os.mkfifo(samples[7].path)
    with pytest.raises(DataError, match=r"4\.png: it is not an image .* \(2 of 11 photographs are broken"):
        check_headers(samples, "raise")
    headers = check_headers(samples, "skip")
    assert (len(headers.found), list(headers.broken)) == (9, [samples[4].path, samples[7].path])
    assert "not an image of a known format" in headers.broken[samples[4].path]


def test_the_digest_sees_the_size_the_beginning_and_the_end(tmp_path):
    content = bytearray(os.urandom(40_000))
    digests = set()
    for change in (None, 0, 16_383, 36_001, 39_999):
        changed = bytearray(content)
        if change is not None:
            changed[change] ^= 1
        (tmp_path / "a").write_bytes(changed)
        digests.add(photo_digest(tmp_path / "a"))
    (tmp_path / "a").write_bytes(content[:20_000] + b"x" + content[20_000:])
    digests.add(photo_digest(tmp_path / "a"))
    assert len(digests) == 6
    assert {len(digest) for digest in digests} == {32}
