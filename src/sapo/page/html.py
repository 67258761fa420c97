"""One HTML file from a template: its style and script are in it, and nothing else may be loaded or run."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sapo.page.texts import visible

HERE = Path(__file__).parent
LARGEST = 3_000_000  # bytes of a page


def page(template: str, **content: Any) -> str:
    """The filled template. Every text in it is escaped, and what is hidden in it is shown."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    own = {"style": style, "script": script, "script_hash": f"sha256-{digest}"}
    return environment.get_template(template).render(**content, **own)
