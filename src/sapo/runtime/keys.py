"""Keys and tokens come from the environment alone: which stage keeps them, and what goes without."""

import os
from collections.abc import Collection
from urllib.parse import unquote

OPENAI = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_CUSTOM_HEADERS")  # an address may hold a password
HUB = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
TRACKERS = (
    "WANDB_API_KEY",
    "MLFLOW_TRACKING_URI",  # an address
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "DVC_STUDIO_TOKEN",
)
ALL = (*OPENAI, *HUB, *TRACKERS)
ADDRESSES = ("OPENAI_BASE_URL", "MLFLOW_TRACKING_URI")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")  # in capitals, too; an address may hold a password
SHORTEST = 8  # a shorter key is a word for a local server, and may stand in any message


def forget_keys(needed: Collection[str] = ()) -> None:
    """Take the keys that this process does not need out of its environment, and so out of its children's."""
    for name in set(ALL).difference(needed):
        os.environ.pop(name, None)


def without_keys() -> dict[str, str]:
    """The environment for a child process that needs none of them."""
    return {name: value for name, value in os.environ.items() if name not in ALL}


def split_address(address: str) -> tuple[str, str, str]:
    """The scheme with its ://, the user and password before an @, and the rest; empty where there is none."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        scheme, rest = "", address
    user, _, place = rest.rpartition("@")
    return scheme + mark, user, place


def masked(text: str, *more: str | None) -> str:
    """The text with the environment's secrets, and `more`, as ***: a server's answers may repeat them.

    So are user and password in an address, and the values of headers.
    """
    secrets = {os.environ.get(name, "") for name in ALL} | {one or "" for one in more}
    for name in (*ADDRESSES, *PROXIES, *map(str.upper, PROXIES)):
        user = split_address(os.environ.get(name, ""))[1]
        password = user.partition(":")[2]
        secrets |= {user, unquote(user), password, unquote(password)}
    for header in os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines():
        secrets.add(header.partition(":")[2].strip())
    for secret in sorted(secrets, key=len)[::-1]:
        if len(secret) >= SHORTEST:
            text = text.replace(secret, "***")
    return text
