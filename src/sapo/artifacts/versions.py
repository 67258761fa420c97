"""The versions of the libraries that a number depends on, to be recorded beside it."""

import sys
from importlib.metadata import version

LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "numpy", "safetensors", "rouge-score")


def versions() -> dict[str, str]:
    """Library -> version, and Python's."""
    return {"python": "{}.{}".format(*sys.version_info)} | {name: version(name) for name in LIBRARIES}
