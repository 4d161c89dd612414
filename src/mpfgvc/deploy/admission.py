"""Who may come in: a bounded number of photographs, and of bytes, is in the server at a time.

A request takes its places before its body is read and gives them back when it is answered. When there are
none left it is refused at once, with 503 and the time after which to try again; nothing waits outside.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mpfgvc.deploy.refusals import RefusedError


class Ticket:
    """The places and bytes of one request."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.photographs = self.bytes = 0

    def take_photographs(self, count: int) -> None:
        """Take `count` more places. Raises RefusedError (503) if there are too few."""
        self._admission.take(self, photographs=count)

    def take_bytes(self, count: int) -> None:
        """Take room for `count` more bytes. Raises RefusedError (503) if there is too little."""
        self._admission.take(self, size=count)


class Admission:
    """The places of a server. `seconds_left` says how long the photographs inside will take."""

    def __init__(self, *, photographs: int, size: int, seconds_left: Callable[[int], float]) -> None:
        self._most_photographs, self._most_bytes = photographs, size
        self._seconds_left = seconds_left
        self.photographs = self.bytes = 0
        self.closed = False

    @property
    def is_open(self) -> bool:
        """Whether one more photograph would be admitted."""
        return not self.closed and self.photographs < self._most_photographs

    @contextmanager
    def ticket(self) -> Iterator[Ticket]:
        """The first place of a request, and all that it takes later. Raises RefusedError (503)."""
        ticket = Ticket(self)
        try:
            ticket.take_photographs(1)
            yield ticket
        finally:
            self.photographs -= ticket.photographs
            self.bytes -= ticket.bytes

    def take(self, ticket: Ticket, *, photographs: int = 0, size: int = 0) -> None:
        """Give places to a ticket. Raises RefusedError (503) if too few are left."""
        if self.closed:
            raise RefusedError(503, "the server is stopping", retry_after=self.retry_after())
        if self.photographs + photographs > self._most_photographs:
            line = f"busy: {self.photographs} of {self._most_photographs} places are taken; try again later"
            raise RefusedError(503, line, retry_after=self.retry_after())
        if self.bytes + size > self._most_bytes:
            line = "busy: other uploads take all the memory that is set aside for them; try again later"
            raise RefusedError(503, line, retry_after=self.retry_after())
        self.photographs += photographs
        ticket.photographs += photographs
        self.bytes += size
        ticket.bytes += size

    def retry_after(self) -> int:
        """Whole seconds after which there should be places again."""
        return max(1, min(60, round(self._seconds_left(self.photographs))))
