"""How fast a server may be asked: where it says "too much", all workers wait together, and fewer go on."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

FIRST, LONGEST = 1.0, 60.0  # seconds of the first pause, each further one twice as long, up to the longest
PATIENCE = 300.0  # seconds without any answer, pauses included, after which it is given up


class ImpatientError(Exception):
    """Waiting longer makes no sense."""


class Pace:
    """Lets at most `most` workers send at a time, until it is ended. Safe for threads.

    tell: told why all wait, and an empty text when they go on.
    """

    def __init__(self, most: int, tell: Callable[[str], None]) -> None:
        self.most, self.tell = most, tell
        self.ended = False
        self._under_way, self._pauses, self._grown = 0, 0, 0
        self._until = 0.0  # nobody sends before
        self._since: float | None = None  # the first refusal after the last answer
        self._changed = threading.Condition()

    def begin(self) -> int | None:
        """Wait for a turn to send: the number of pauses so far, for `refused`; None when all is ended."""
        with self._changed:
            while not self.ended:
                left = self._until - time.monotonic()
                if left <= 0 and self._under_way < self.most:
                    self._under_way += 1
                    return self._pauses
                self._changed.wait(left if left > 0 else None)
        return None

    def answered(self) -> None:
        """The request of this turn was answered, however well."""
        with self._changed:
            self._under_way -= 1
            if self._since is not None:
                self.tell("")
            self._since, self._grown = None, 0
            self._changed.notify_all()

    def gave_up(self) -> None:
        """The request of this turn failed in another way."""
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def refused(self, pauses: int, why: str, wait: float | None) -> None:
        """The server wants to be asked less: all wait, and half as many as before go on.

        A request that was sent before the present pause began says nothing new. wait: seconds that the server
        asks for, a lower bound. Raises ImpatientError when no answer has come for PATIENCE seconds, or would.
        """
        with self._changed:
            self._under_way -= 1
            now = time.monotonic()
            self._since = now if self._since is None else self._since
            pause = wait or 0.0
            if first := pauses == self._pauses:
                pause = max(pause, min(FIRST * 2**self._grown, LONGEST))
                self._pauses += 1
                self._grown += 1
                self.most = max(1, self.most // 2)
            self._until = max(self._until, now + pause)
            self._changed.notify_all()
            if self._until - self._since > PATIENCE:
                raise ImpatientError(
                    f"it asks to wait {wait:.0f} s"
                    if wait and wait > PATIENCE
                    else f"no answer in {PATIENCE:.0f} s of waiting"
                )
            if first:
                self.tell(f"{why}: waiting {self._until - now:.0f} s")

    def end(self) -> None:
        """Let nobody send any more."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def sleep(self, seconds: float) -> None:
        """Wait so long, or until all is ended."""
        with self._changed:
            self._changed.wait_for(lambda: self.ended, seconds)


def wanted_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: Retry-After as a number or a date; None where it says nothing."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            wait = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        return max(0.0, wait) if math.isfinite(wait) else None
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError):
        return None
