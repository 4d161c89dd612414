"""Places and bytes are bounded, given back, and what is refused learns when to try again."""

import pytest

from mpfgvc.deploy.admission import Admission
from mpfgvc.deploy.refusals import RefusedError


def admission(seconds_each: float = 0.5) -> Admission:
    return Admission(photographs=3, size=100, seconds_left=lambda inside: seconds_each * inside)


def test_places_are_taken_given_back_and_refused_beyond_the_last() -> None:
    places = admission()
    with places.ticket() as first:
        first.take_photographs(1)
        with places.ticket():
            assert (places.photographs, places.is_open) == (3, False)
            with (
                pytest.raises(RefusedError, match="busy: 3 of 3 places are taken") as refused,
                places.ticket(),
            ):
                raise AssertionError("no place was left")
            assert (refused.value.status, refused.value.retry_after) == (503, 2)
        assert (places.photographs, places.is_open) == (2, True)
    assert places.photographs == 0


def test_a_request_that_needs_too_many_places_gets_none_of_them() -> None:
    places = admission()
    with places.ticket(), pytest.raises(RefusedError, match="busy"), places.ticket() as second:
        second.take_photographs(2)
    assert places.photographs == 0


def test_bytes_are_bounded_over_all_requests() -> None:
    places = admission()
    with places.ticket() as first, places.ticket() as second:
        first.take_bytes(60)
        with pytest.raises(RefusedError, match="memory"):
            second.take_bytes(41)
        second.take_bytes(40)
        assert places.bytes == 100
    assert places.bytes == 0


@pytest.mark.parametrize(("seconds_each", "told"), [(0.0, 1), (4.4, 4), (500.0, 60)])
def test_the_time_to_wait_is_that_of_what_is_inside_within_a_minute(seconds_each: float, told: int) -> None:
    places = admission(seconds_each)
    with places.ticket():
        assert places.retry_after() == told


def test_a_stopping_server_admits_nobody() -> None:
    places = admission()
    places.closed = True
    assert not places.is_open
    with pytest.raises(RefusedError, match="stopping"), places.ticket():
        raise AssertionError("it was closed")
