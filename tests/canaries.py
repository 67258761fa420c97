"""Keys and markup that a test plants and then looks for in everything that was written."""

import json
from pathlib import Path

from openai_server import HANG_UP, Answer, completion

KEY = "canary-openai-7f3a9c1e5b2d"
TOKEN = "canary-hub-1d8e4b6a9c03"
MARKUP = (
    "<script>alert(1)</script> [x](javascript:alert(1)) ![i](http://h/i.png) "
    '$\\frac{a$ %s {x} {{y}} `` # & "q"'
)


def holding(folder: Path, *secrets: str) -> list[str]:
    """The files below the folder that hold one of the secrets, in their names or in their bytes."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [
        str(path)
        for path in files
        if any(
            secret in str(path.relative_to(folder)) or secret.encode() in path.read_bytes()
            for secret in secrets
        )
    ]


def repeated(fault: str, secret: str, elsewhere: str = "") -> Answer:
    """An answer that repeats the request's Authorization: an error of the status `fault`, or in another way.

    elsewhere: where the fault `redirect` points.
    """
    said = f"Bearer {secret}"
    headers = {"x-request-id": said, "retry-after-ms": "1"}
    error = json.dumps({"error": {"message": f"refused: {said}", "code": said}}).encode()
    if fault.isdigit():
        return Answer(int(fault), error, headers)
    return {
        "hang up": HANG_UP,
        "redirect": Answer(307, error, headers | {"Location": elsewhere}),
        "html": Answer(403, f"<html>{said}</html>".encode(), headers | {"Content-Type": "text/html"}),
        "not json": Answer(200, f"{{{said}".encode(), headers),
        "answer": Answer(200, completion(f"Is it good or bad? The key is {said}.").body, headers),
        "hub": Answer(
            403, error, headers | {"X-Error-Code": "GatedRepo", "X-Error-Message": f"{said} has no access."}
        ),
    }[fault]
