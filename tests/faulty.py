"""Known faults of the public implementation: how a test tells the program here from one with the fault."""

from collections.abc import Callable
from typing import Any

import pytest

from sapo.runtime.errors import DataError


def tell_apart(check: Callable[[Any], None], ours: Any, *faulty: Any) -> None:
    """The program here passes the check, and every re-creation of the fault fails it."""
    check(ours)
    for fault in faulty:
        with pytest.raises(AssertionError):
            check(fault)


def refuses(call: Callable[[], Any]) -> bool:
    """Whether the call ends in the error for unusable input."""
    try:
        call()
    except DataError:
        return True
    return False


def works(call: Callable[[], Any]) -> bool:
    """Whether the call comes to its end."""
    try:
        call()
    except Exception:
        return False
    return True
