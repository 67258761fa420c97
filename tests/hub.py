"""A hub of data sets on loopback, as huggingface_hub and datasets speak to it."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

REVISION = "1234567890" * 4  # the one that every data set has
GATED = "someone/gated"
TOKEN = "hf_a-token-for-the-gated-one"  # pragma: allowlist secret


class Hub(BaseHTTPRequestHandler):
    """Serves folder/OWNER/NAME; `asked` has what was asked, and the number of bytes sent."""

    protocol_version = "HTTP/1.1"
    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))

    def answer(self, form: dict[str, list[str]] | None = None) -> None:
        path = unquote(urlsplit(self.path).path)
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "datasets"]:
            name, (what, revision, *rest) = "/".join(parts[2:4]), parts[4:] or ["revision", REVISION]
        elif parts[0] == "datasets" and parts[3:4] == ["resolve"]:
            name, what, revision, rest = "/".join(parts[1:3]), "resolve", parts[4], parts[5:]
        else:
            return self.fault("EntryNotFound")
        home = self.folder / name
        if name == GATED and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.fault("GatedRepo", 403)
        if not home.is_dir():
            return self.fault("RepoNotFound")
        if revision not in (REVISION, "main"):
            return self.fault("RevisionNotFound")
        if what == "revision":
            siblings = [{"rfilename": str(file.relative_to(home))} for file in home.rglob("*")]
            return self.reply(json.dumps({"id": name, "sha": REVISION, "siblings": siblings}).encode())
        if what == "tree":
            there = home.joinpath(*rest)
            found = there.rglob("*") if "recursive=true" in self.path.lower() else there.glob("*")
            return self.reply(json.dumps([entry(home, file) for file in found]).encode())
        if what == "paths-info":
            found = [home / name for name in (form or {}).get("paths", [])]
            return self.reply(json.dumps([entry(home, file) for file in found if file.exists()]).encode())
        return self.file(home.joinpath(*rest))

    def file(self, path: Path) -> None:
        if not path.is_file():
            return self.fault("EntryNotFound")
        content = path.read_bytes()
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": REVISION}
        wanted = self.headers.get("Range")
        if wanted:
            first, last = (
                int(n) if n else len(content) - 1 for n in wanted.removeprefix("bytes=").split("-")
            )
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content = content[first : last + 1]
        return self.reply(content, headers | {"Accept-Ranges": "bytes"}, 206 if wanted else 200)

    def fault(self, code: str, status: int = 404) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": f"{code}, {self.headers.get('Authorization')}."}
        return self.reply(b"{}", headers, status)

    def reply(self, content: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        about = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        for name, value in (about | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        sent = 0 if self.command == "HEAD" else len(content)
        self.asked.append(f"{self.command} {unquote(urlsplit(self.path).path)} {sent}")

    def log_message(self, *_: object) -> None:
        pass


def entry(home: Path, path: Path) -> dict[str, object]:
    """A file or folder, as the hub lists it."""
    about = {"path": str(path.relative_to(home)), "type": "file" if path.is_file() else "directory"}
    content = path.read_bytes() if path.is_file() else b""
    return about | {"size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@contextmanager
def serving(folder: Path) -> Iterator[tuple[dict[str, str], list[str]]]:
    """What a process needs in its environment to ask this hub, and what it has been asked."""
    asked: list[str] = []
    handler = type("ThisHub", (Hub,), {"folder": folder, "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        about = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
        yield about | {"HF_HOME": str(folder / ".home"), "HF_HUB_DISABLE_XET": "1"}, asked
        server.shutdown()
