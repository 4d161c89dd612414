"""What decoders say on the side."""

import io
import logging
import warnings

import numpy as np
import pytest
from PIL import Image

from mpfgvc.data.decoding.noise import quiet_decoders
from mpfgvc.data.images import read_image
from mpfgvc.errors import DataError


@pytest.fixture
def broken_tiff(tmp_path):
    """A TIFF whose pixels libtiff complains about."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.tiff", compression="tiff_adobe_deflate")
    content = bytearray((tmp_path / "a.tiff").read_bytes())
    content[6000:6100] = b"\xff" * 100
    (tmp_path / "a.tiff").write_bytes(content)
    return tmp_path / "a.tiff"


def test_libtiff_is_silent_while_a_photograph_is_read_and_not_afterwards(broken_tiff, capfd):
    with pytest.raises(DataError, match=r"a\.tiff"):
        read_image(broken_tiff)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(OSError, match="decoder error"):
        Image.open(io.BytesIO(broken_tiff.read_bytes())).load()
    assert "ZIPDecode" in capfd.readouterr().err


def test_the_logger_speaks_again_when_the_last_block_ends(caplog):
    logger = logging.getLogger("PIL.TiffImagePlugin")
    with quiet_decoders():
        with quiet_decoders():
            logger.error("inside")
        logger.error("still inside")
    logger.error("afterwards")
    assert caplog.messages == ["afterwards"]


def test_other_warnings_are_shown_once_however_many_photographs_are_read(tmp_path):
    Image.new("RGB", (9, 5)).save(tmp_path / "a.png")

    def step():
        warnings.warn("ours", stacklevel=1)

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        read_image(tmp_path / "a.png")
        for _ in range(3):
            step()
            read_image(tmp_path / "a.png")
    assert [str(each.message) for each in shown] == ["ours"]
