import hashlib
import json
import os
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from sapo.runtime.errors import DataError

from sapo.runtime.files import sha256_file
from sapo.models.load import load_model, load_tokenizer
from sapo.models.make import make_base
from sapo.artifacts.base_model import read_base
from sapo.config import Model
from sapo.prompts.encoder import PromptEncoder
from sapo.artifacts.task import Example

CONF = Path(__file__).parents[2] / "conf/model"


def model_of(name: str, **changes: object) -> Model:
    return Model.model_validate(yaml.safe_load((CONF / f"{name}.yaml").read_text()) | changes)


def test_a_local_folder_is_recorded_not_copied(tiny_base: Path, tmp_path: Path) -> None:
    make_base(model_of("tiny_llama", source="folder", id=str(tiny_base)), tmp_path, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["base.json"]
    assert read_base(tmp_path)["sha256"]["model.safetensors"] == read_base(tiny_base)["sha256"]["model.safetensors"]
    assert load_model(tmp_path, "float32").config.hidden_size == 32
    assert load_tokenizer(tmp_path).chat_template


def test_fault_19_a_path_with_adapter_in_it_and_a_trailing_slash_is_an_ordinary_folder(tiny_base: Path, tmp_path: Path) -> None:
    source = tmp_path / "my_adapter_model"
    shutil.copytree(tiny_base, source)
    target = tmp_path / "base"
    target.mkdir()
    make_base(model_of("tiny_llama", source="folder", id=f"{source}/"), target, seed=0)
    assert load_model(target, "float32").num_parameters() > 1000


def test_a_folder_without_a_model_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model\.id: .*is not a Hugging Face model folder"):
        make_base(model_of("tiny_llama", source="folder", id=str(tmp_path)), tmp_path, seed=0)


def test_a_hub_model_must_be_pinned_and_an_unreachable_hub_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="40-digit commit id"):
        model_of("tiny_llama", source="hub", id="someone/model", revision="main")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"model\.id: cannot fetch someone/model"):
        make_base(model_of("tiny_llama", source="hub", id="someone/model", revision="0" * 40), tmp_path, seed=0)


def test_the_default_model_is_converted_and_its_prompts_are_those_of_its_chat_template(tmp_path: Path) -> None:
    make_base(model_of("smollm2_135m"), tmp_path, seed=0)
    assert read_base(tmp_path)["sha256"].keys() >= {"model.safetensors", "tokenizer.json", "chat_template.jinja"}
    tokenizer = load_tokenizer(tmp_path)
    encoder = PromptEncoder(tokenizer, 256, {})
    texts = ["Profits rose 12 pct.", 'He said: "no"', "Two  spaces, a line\nbreak and {braces}", "naïve 文本 🙂", "#tag @name!"]
    rows = encoder.encode("Classify it.", "Answer.", "en", [Example(text, "earn") for text in texts], answers=True)
    for text, row in zip(texts, rows, strict=True):
        turn = {"role": "user", "content": f"Classify it.\n\nText:\n{text}\n\nAnswer."}
        stock = tokenizer.apply_chat_template([turn], add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
        assert row.prompt == stock
        assert row.answer == [*tokenizer("earn")["input_ids"], tokenizer.convert_tokens_to_ids("<|im_end|>")]


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
                403, b"{}", body, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."}
            )
        if path == f"/api/models/someone/model/revision/{self.revision}":
            about = {"id": "someone/model", "sha": self.revision, "siblings": [{"rfilename": name} for name in files]}
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
            return self.reply(404, b"{}", body, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found."})
        return self.reply(404, b"{}", body, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found."})

    def reply(self, status: int, content: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(content))} | (headers or {})).items():
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
about = dict(name="m", source="hub", wheel=None, dtype="bfloat16", target_modules=["q_proj"], template_options={})
for name in ("someone/gated", "someone/absent"):
    try:
        make_base(Model(id=name, revision=revision, **about), folder, seed=0)
    except DataError as error:
        print("ERROR", error)
make_base(Model(id="someone/model", revision=revision, **about), folder, seed=0)
for name in ("http_proxy", "HTTP_PROXY"):
    os.environ[name] = "http://127.0.0.1:9"  # no request that is made from here on arrives anywhere
model = load_model(folder, "bfloat16")
print("dtype", {p.dtype for p in model.parameters()}, "sum", float(sum(p.double().sum() for p in model.parameters())))
print("tokens", load_tokenizer(folder)("one")["input_ids"], "files", sorted(p.name for p in folder.iterdir()))
"""


def test_a_hub_model_of_several_files_is_fetched_at_its_revision_and_a_gated_or_missing_one_says_what_to_do(
    tiny_base: Path, tmp_path: Path
) -> None:
    sharded, target = tmp_path / "sharded", tmp_path / "base"
    target.mkdir()
    model = load_model(tiny_base, "bfloat16")
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
            "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
        }
        done = subprocess.run(
            [sys.executable, "-c", FROM_HUB, str(target), Hub.revision], env=environment, capture_output=True, text=True
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


CONVERSION = """
import os, sys, time
from pathlib import Path
import yaml
from sapo import models
from sapo.config import Model

def write(model, wheel, folder):
    (folder / "config.json").write_text("half")
    if sys.argv[2] == "dies":
        os._exit(9)
    print("converted", flush=True)
    time.sleep(0.3)
    (folder / "config.json").write_text("whole")

models._write_converted = write  # the real one takes half a minute; it is not what is tested
target = Path(sys.argv[1])
target.mkdir()
models._convert_gguf(Model.model_validate(yaml.safe_load(Path(sys.argv[3]).read_text())), target)
"""


def test_a_conversion_that_was_killed_is_made_again_and_two_at_once_make_one(tmp_path: Path) -> None:
    environment = os.environ | {"SAPO_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(CONF.parents[1] / "src")}

    def convert(target: str, way: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CONVERSION, str(tmp_path / target), way, str(CONF / "smollm2_135m.yaml")]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    with convert("killed", "dies") as killed:
        assert killed.wait() == 9
    assert not list((tmp_path / "killed").iterdir())
    several = [convert(name, "lives") for name in ("a", "b", "c")]
    printed = "".join(process.communicate()[0] for process in several)
    assert printed.count("converted") == 1
    assert [(tmp_path / name / "config.json").read_text() for name in ("a", "b", "c")] == ["whole"] * 3
    assert [path.name.startswith("smollm2_135m-") for path in (tmp_path / "cache").iterdir()] == [True]
