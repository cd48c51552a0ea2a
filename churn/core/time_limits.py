"""Time limits on work that may never end: one by a signal, for Python code, and one by a thread, for code in C.

Neither replaces the other: a signal does not interrupt a driver that waits in C, and the body of a `with` block cannot
run in another thread.
"""

import signal
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from queue import Empty, Queue
from threading import Event, Thread
from typing import TypeVar

from churn.core.errors import StageError

T = TypeVar("T")


@contextmanager
def deadline(seconds: float, message: str) -> Iterator[None]:
    """Interrupt the Python code of a block that is still running after some seconds.

    Parameters
    ----------
    seconds
        The time for the whole block, which has to run in the main thread.
    message
        The text of the StageError.

    Raises
    ------
    StageError
        When the time is over, and once a second from then on, in case a library swallows the first.

    Examples
    --------
    >>> with deadline(0.01, "the registry is silent: run it again."):
    ...     time.sleep(10)
    Traceback (most recent call last):
    churn.core.errors.StageError: the registry is silent: run it again.
    """

    def ring(*_: object) -> None:
        raise StageError(message)

    former = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def within(seconds: float, message: str, items: Generator[T]) -> Generator[T]:
    """Yield the items of a generator that may block in C, as a database driver does.

    Parameters
    ----------
    seconds
        The time for all items together.
    message
        The text of the StageError.
    items
        The generator, which runs in a thread of its own, at most three items ahead.

    Raises
    ------
    StageError
        When the time is over. A thread that is still blocked ends with the process.

    Examples
    --------
    >>> list(within(60, "the server is silent: run it again.", (number for number in (1, 2))))
    [1, 2]
    """
    handed: Queue[T | BaseException | None] = Queue(2)
    end, stopped = time.monotonic() + seconds, Event()

    def read() -> None:
        last = None
        try:
            with closing(items):
                for item in items:
                    handed.put(item)
                    if stopped.is_set():
                        break
        except BaseException as error:
            last = error
        handed.put(last)

    reader = Thread(target=read, daemon=True)
    reader.start()
    try:
        while (item := handed.get(timeout=max(end - time.monotonic(), 0))) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    except Empty:
        raise StageError(message) from None
    finally:
        stopped.set()
        with suppress(Empty):
            while True:
                handed.get_nowait()
        reader.join(1)
