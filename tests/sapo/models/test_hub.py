"""A base model from a model hub: pinned, fetched once, and loaded without the network."""

import hashlib
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from laboratory import REPOSITORY
from sapo.config import Model
from sapo.models.load import load_model, load_tokenizer
from sapo.models.make import make_base
from sapo.runtime.errors import DataError
from sapo.runtime.files import sha256_file


def hub_model(name: str, revision: str) -> Model:
    """The tiny model's settings, from the hub."""
    about = yaml.safe_load((REPOSITORY / "conf/model/tiny_llama.yaml").read_text())
    return Model.model_validate(about | {"source": "hub", "id": name, "revision": revision})


def test_a_hub_model_must_be_pinned_and_an_unreachable_hub_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="40-digit commit id"):
        hub_model("someone/model", "main")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"model\.id: cannot fetch someone/model"):
        make_base(hub_model("someone/model", "0" * 40), tmp_path, seed=0)


class Hub(BaseHTTPRequestHandler):
    """A model hub on loopback: one public model in several files, a gated one, and nothing else."""

    folder: Path
    revision = "1234567890" * 4
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(f"{self.command} {path}")
        files = sorted(file.name for file in self.folder.iterdir())
        if "someone/gated" in path:
            return self.reply(
                403,
                b"{}",
                body,
                {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."},
            )
        if path == f"/api/models/someone/model/revision/{self.revision}":
            about = {
                "id": "someone/model",
                "sha": self.revision,
                "siblings": [{"rfilename": name} for name in files],
            }
            return self.reply(200, json.dumps(about).encode(), body)
        if path.startswith(f"/api/models/someone/model/tree/{self.revision}"):
            tree = [
                {
                    "type": "file",
                    "path": name,
                    "size": (self.folder / name).stat().st_size,
                    "oid": sha256_file(self.folder / name)[:40],
                }
                for name in files
            ]
            return self.reply(200, json.dumps(tree).encode(), body)
        resolved = f"/someone/model/resolve/{self.revision}/"
        if path.startswith(resolved) and path.removeprefix(resolved) in files:
            content = (self.folder / path.removeprefix(resolved)).read_bytes()
            etag = hashlib.sha256(content).hexdigest()[:40]
            return self.reply(200, content, body, {"ETag": f'"{etag}"', "X-Repo-Commit": self.revision})
        if "someone/model" in path:
            return self.reply(
                404, b"{}", body, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found."}
            )
        return self.reply(
            404, b"{}", body, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found."}
        )

    def reply(self, status: int, content: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(content))} | (headers or {})
        ).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


FROM_HUB = """
import os, sys, torch
from pathlib import Path
from sapo.runtime.errors import DataError
from sapo.models.load import load_model, load_tokenizer
from sapo.models.make import make_base
from sapo.config import Model
folder, revision = Path(sys.argv[1]), sys.argv[2]
about = dict(name="m", source="hub", wheel=None, dtype="bfloat16", target_modules=["q_proj"])
about["template_options"] = {}
for name in ("someone/gated", "someone/absent"):
    try:
        make_base(Model(id=name, revision=revision, **about), folder, seed=0)
    except DataError as error:
        print("ERROR", error)
make_base(Model(id="someone/model", revision=revision, **about), folder, seed=0)
for name in ("http_proxy", "HTTP_PROXY"):
    os.environ[name] = "http://127.0.0.1:9"  # no request that is made from here on arrives anywhere
model = load_model(folder, "bfloat16")
parameters = list(model.requires_grad_(False).parameters())
print("dtype", {p.dtype for p in parameters}, "sum", float(sum(p.double().sum() for p in parameters)))
print("tokens", load_tokenizer(folder)("one")["input_ids"], "files", sorted(p.name for p in folder.iterdir()))
"""


def test_a_hub_model_of_several_files_is_fetched_at_its_revision_and_a_gated_or_missing_one_says_what_to_do(
    tiny_base: Path, tmp_path: Path
) -> None:
    sharded, target = tmp_path / "sharded", tmp_path / "base"
    target.mkdir()
    model = load_model(tiny_base, "bfloat16").requires_grad_(False)
    model.save_pretrained(sharded, max_shard_size="20KB")
    load_tokenizer(tiny_base).save_pretrained(sharded)
    assert len(list(sharded.glob("model-*.safetensors"))) > 2
    (sharded / "pytorch_model.bin").write_bytes(b"a pickle that must never be fetched")

    handler = type("ThisHub", (Hub,), {"folder": sharded})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        environment = os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "PYTHONPATH": str(REPOSITORY / "src"),
        }
        done = subprocess.run(
            [sys.executable, "-c", FROM_HUB, str(target), Hub.revision],
            env=environment,
            capture_output=True,
            text=True,
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert f"dtype {{torch.bfloat16}} sum {float(sum(p.double().sum() for p in model.parameters()))}" in lines
    assert "files ['base.json']" in done.stdout  # recorded, not copied
    assert not any("pytorch_model.bin" in path for path in Hub.asked if "resolve" in path)
    assert "model.id: cannot fetch someone/gated at 1234567890" in done.stdout
    assert "model.id: cannot fetch someone/absent at 1234567890" in done.stdout
    assert done.stdout.count("accept its licence on its page and set HF_TOKEN") == 2
