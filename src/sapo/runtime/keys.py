"""Keys and tokens come from the environment alone: which stage keeps them, and what goes without."""

import os
from collections.abc import Collection

OPENAI = ("OPENAI_API_KEY", "OPENAI_BASE_URL")  # an address may hold a password
HUB = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
SHORTEST = 8  # a shorter key is a word for a local server, and may stand in any message


def forget_keys(needed: Collection[str] = ()) -> None:
    """Take the keys that this process does not need out of its environment, and so out of its children's."""
    for name in {*OPENAI, *HUB}.difference(needed):
        os.environ.pop(name, None)


def without_keys() -> dict[str, str]:
    """The environment for a child process that needs none of them."""
    return {name: value for name, value in os.environ.items() if name not in (*OPENAI, *HUB)}


def masked(text: str, *more: str | None) -> str:
    """The text with the environment's secrets, and `more`, as ***: a server's answers may repeat them."""
    for secret in sorted(
        {os.environ.get(name, "") for name in (*OPENAI, *HUB)} | {one or "" for one in more}, key=len
    )[::-1]:
        if len(secret) >= SHORTEST:
            text = text.replace(secret, "***")
    return text
