"""Importing torch and transformers in less time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import large libraries without the garbage collector: what they create stays to the end of the process.

    The collector would look through all of it again and again, a fifth of the time that importing takes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
