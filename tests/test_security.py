"""What others wrote (weights, archives, answers, names) is data: never executed, never a path, never markup. Keys stay secret.

Archives and downloads are tested with the parts that read them: test_wheels.py, test_download.py.
"""

import ast
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import Any

import jinja2
import pytest
import torch
import yaml
from dvc.utils.hydra import compose_and_dump
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState

from sapo import figures
from sapo.lora.stack import load_adapter, save_adapter
from sapo.data.catalog import catalog
from sapo.training.card import model_card
from sapo.runtime.keys import HUB, OPENAI
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_yaml
from sapo.runtime.outputs import write_json
from sapo.models.load import load_model, load_tokenizer
from sapo.models.make import make_base
from sapo.artifacts.base_model import read_base
from sapo.config import Lora, Model, Paraphrase, Train, check_task, load_params
from sapo.candidates import api
from sapo.candidates.api import from_api
from sapo.prompts.encoder import PromptEncoder
from sapo.runtime.command import run
from sapo.artifacts.task import Example, Task
from sapo.training.loop import new_lora, train_task

REPOSITORY = Path(__file__).parent.parent
KEY = "canary-openai-7f3a9c1e5b2d"
TOKEN = "canary-hub-1d8e4b6a9c03"
MARKUP = '<script>alert(1)</script> [x](javascript:alert(1)) ![i](http://h/i.png) $\\frac{a$ %s {x} {{y}} `` # & "q"'


# nothing is executed

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "yaml.load", "yaml.load_all"}
FORBIDDEN_CALLS |= {"yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle", "pd.read_pickle", "subprocess.getoutput"}
FORBIDDEN_OPTIONS = {"shell", "allow_pickle", "trust_remote_code"}


def dangers(source: str) -> list[str]:
    """The calls, options and imports of a program that could run what a file or a text holds."""
    found = []
    nodes = list(ast.walk(ast.parse(source)))
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    safe = {"yaml.SafeLoader", "getattr(yaml, 'CSafeLoader', yaml.SafeLoader)"}
    safe |= {one.name for one in classes if "yaml.SafeLoader" in map(ast.unparse, one.bases)}
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{name.name}" for name in node.names}
            found += sorted(names & FORBIDDEN_CALLS) + [node.module or ""] * (
                (node.module or "").split(".")[0] in FORBIDDEN_MODULES
            )
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            loads_safely = name == "yaml.load" and safe & {ast.unparse(one) for one in node.args[1:]}
            found += [name] * (name in FORBIDDEN_CALLS and not loads_safely)
            for option in node.keywords:
                off = isinstance(option.value, ast.Constant) and not option.value.value
                found += [f"{option.arg}="] * (option.arg in FORBIDDEN_OPTIONS and not off)
                found += ["weights_only="] * (option.arg == "weights_only" and off)
    return found


@pytest.mark.parametrize(
    "source",
    [
        *["import pickle", "from joblib import load", "import numpy, dill", "eval(text)", "exec(text)", "torch.load(path)"],
        *["torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)", "subprocess.run(text, shell=True)"],
        *["yaml.load(text)", "yaml.load(text, yaml.Loader)", "class A(yaml.FullLoader): pass\nyaml.load(text, A)"],
        *["from yaml import unsafe_load", "os.system(text)", "f(x, trust_remote_code=settings.trust)"],
    ],
)
def test_the_scan_below_sees_what_it_looks_for(source: str) -> None:
    assert dangers(source)


def test_no_program_unpickles_evaluates_or_starts_a_shell() -> None:
    programs = sorted([*REPOSITORY.glob("src/**/*.py"), *REPOSITORY.glob("benchmarks/*.py"), *REPOSITORY.glob(".ci/*.py")])
    assert len(programs) > 30
    found = {str(path.relative_to(REPOSITORY)): dangers(path.read_text(encoding="utf-8")) for path in programs}
    assert {path: what for path, what in found.items() if what} == {}


def test_yaml_builds_no_object(tmp_path: Path) -> None:
    attack = tmp_path / "attack.yaml"
    for tag in ("object/apply", "object/new"):
        attack.write_text(f"key: !!python/{tag}:os.mkdir [{tmp_path / 'executed'}]\n")
        with pytest.raises(DataError, match=r"attack\.yaml"):
            read_yaml(attack, missing="-")
    assert not (tmp_path / "executed").exists()


class Payload:
    """Unpickled, it writes a file: what an attacker would put into a pickle."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.fixture
def planted(tmp_path: Path) -> Callable[[Path], None]:
    """Writes a pickle that works."""
    marker = tmp_path / "executed"
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()
    marker.unlink()
    return lambda path: path.write_bytes(pickle.dumps(Payload(marker))) and None


def prepared(folder: Path, target: Path) -> Any:
    """The model and tokenizer of a folder that somebody gave us, as the stages make and load them."""
    about = yaml.safe_load((REPOSITORY / "conf/model/tiny_llama.yaml").read_text()) | {"source": "folder", "id": str(folder)}
    target.mkdir()
    make_base(Model.model_validate(about), target, seed=0)
    return PromptEncoder(load_tokenizer(target), 400, {}), load_model(target, "float32")


def only_pickle(folder: Path, plant: Callable[[Path], None]) -> None:
    (folder / "model.safetensors").unlink()
    plant(folder / "pytorch_model.bin")


def pickle_beside_other_weights(folder: Path, plant: Callable[[Path], None]) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    plant(folder / "pytorch_model.bin")


def index_that_names_a_pickle(folder: Path, plant: Callable[[Path], None]) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    plant(folder / "weights.bin")
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": {"lm_head.weight": "weights.bin"}})


def index_that_leaves_the_folder(folder: Path, _: Callable[[Path], None]) -> None:
    shutil.copytree(folder, folder.parent / "other")
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"lm_head.weight": "../other/model.safetensors"}})


def adapter_in_the_folder(folder: Path, plant: Callable[[Path], None]) -> None:
    about = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    write_json(folder / "adapter_config.json", about | {"base_model_name_or_path": str(folder)})
    plant(folder / "adapter_model.bin")


def code_of_an_unknown_model(folder: Path, plant: Callable[[Path], None]) -> None:
    config = json.loads((folder / "config.json").read_text())
    code_of_a_known_model(folder, plant)
    own = {
        "model_type": "own",
        "architectures": ["Own"],
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"},
    }
    write_json(folder / "config.json", config | own)


def code_of_a_known_model(folder: Path, _: Callable[[Path], None]) -> None:
    marker = folder.parent / "executed"
    (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\nclass Own: pass\n")
    auto = {"config.json": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    auto["tokenizer_config.json"] = {"AutoTokenizer": ["own.Own", "own.Own"]}  # type: ignore[dict-item]
    for name, classes in auto.items():
        write_json(folder / name, json.loads((folder / name).read_text()) | {"auto_map": classes})


def template_that_reaches_for_python(folder: Path, _: Callable[[Path], None]) -> None:
    marker = folder.parent / "executed"
    attack = "{{ cycler.__init__.__globals__.os.system('touch MARKER') }}{{ messages[0].content }}"
    (folder / "chat_template.jinja").write_text(attack.replace("MARKER", str(marker)))
    jinja2.Environment().from_string((folder / "chat_template.jinja").read_text()).render(messages=[{"content": "x"}])
    marker.unlink()  # so it works, without a sandbox


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (only_pickle, "not a Hugging Face model folder with safetensors"),
        (pickle_beside_other_weights, r"no file named model\.safetensors"),
        (index_that_names_a_pickle, r"names weights\.bin: weights are read from safetensors files"),
        (index_that_leaves_the_folder, r"names \.\./other/model\.safetensors: weights are read from safetensors files beside it"),
        (adapter_in_the_folder, r"No such file or directory: .*adapter_model\.safetensors"),
        (code_of_a_known_model, None),  # its code is passed over, the library's own is used
        (code_of_an_unknown_model, "custom code"),
        (template_that_reaches_for_python, "unsafe"),
    ],
)
def test_a_model_folder_is_data(
    tiny_base: Path, tmp_path: Path, planted: Callable[[Path], None], change: Callable[..., None], refusal: str | None
) -> None:
    folder = tmp_path / "given"
    shutil.copytree(tiny_base, folder)
    change(folder, planted)
    with pytest.raises(Exception, match=refusal) if refusal else nullcontext():  # some are the library's own errors
        prepared(folder, tmp_path / "base")
    assert not (tmp_path / "executed").exists()


def test_an_adapter_is_read_from_safetensors_alone(
    tiny_base: Path, tmp_path: Path, planted: Callable[[Path], None], new_model: Callable[[], PreTrainedModel], lora: Lora
) -> None:
    base = read_base(tiny_base)
    lineage = {"base": base, "tasks": [{"task": "t", "prompt": {"instruction": "Judge it."}, "rows": 1}]}
    (tmp_path / "adapter").mkdir()
    save_adapter(tmp_path / "adapter", {}, lora, ["q_proj"], lineage, "card")
    (tmp_path / "adapter/adapter_model.safetensors").unlink()
    planted(tmp_path / "adapter/adapter_model.bin")
    with pytest.raises(DataError, match=r"adapter_model\.safetensors cannot be read"):
        load_adapter(tmp_path / "adapter", base["fingerprint"])
    planted(tmp_path / "adapter/adapter_model.safetensors")
    with pytest.raises(DataError, match=r"adapter_model\.safetensors cannot be read"):
        load_adapter(tmp_path / "adapter", base["fingerprint"])
    assert not (tmp_path / "executed").exists()


class StopAt(TrainerCallback):
    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        control.should_training_stop = state.global_step >= 2


def test_a_checkpoint_that_holds_a_pickle_does_not_run_it(
    tmp_path: Path,
    planted: Callable[[Path], None],
    new_model: Callable[[], PreTrainedModel],
    encoder: PromptEncoder,
    examples: list[Example],
    lora: Lora,
    train_settings: Train,
) -> None:
    rows = encoder.encode("Judge it.", "Answer:", "en", examples[:4], answers=True)
    options: dict[str, Any] = {"train": train_settings.model_copy(update={"batch_size": 1}), "seed": 5, "pad": 0}

    def train(folder: Path, *callbacks: TrainerCallback) -> None:
        adapted = new_lora(new_model(), lora, ["q_proj"], seed=5)
        train_task(adapted, rows, checkpoints=folder, callbacks=callbacks, **options)

    train(tmp_path / "killed", StopAt())
    [checkpoint] = (tmp_path / "killed").glob("checkpoint-*")
    read = {path.name for path in checkpoint.iterdir()}
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_model.safetensors"} <= read
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "adapter_model.bin"):
        folder = tmp_path / name
        shutil.copytree(tmp_path / "killed", folder)
        if name == "adapter_model.bin":
            (folder / checkpoint.name / "adapter_model.safetensors").unlink()
        planted(folder / checkpoint.name / name)
        with suppress(Exception):  # whether it goes on without the file or ends, the pickle is not run
            train(folder)
        assert not (tmp_path / "executed").exists(), name


# a name is not a path


@pytest.mark.parametrize("name", ["../../x", "a/b", "/etc/passwd", "..", ".hidden", "a;touch x", "$(touch x)", "a\nb", "-rf", ""])
@pytest.mark.parametrize("key", ["sequence.name", "method.name", "model.name", "launch.name", "task"])
def test_a_name_that_could_be_a_path_or_a_command_is_refused(tmp_path: Path, key: str, name: str) -> None:
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    if key == "task":
        params["sequence"] |= {"source": "folder", "tasks": {name: {"after": "base"}}, "last": name}
    else:
        params[key.split(".")[0]]["name"] = name
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    with pytest.raises(DataError, match=key.split(".")[0] if key != "task" else "cannot be a task's name"):
        load_params(tmp_path / "params.yaml")


def test_a_stages_argument_is_one_of_the_tasks() -> None:
    params = load_params(REPOSITORY / "params.yaml")
    for name in ("../models/base", f"{params.sequence.last}/../base", "", "base"):
        with pytest.raises(DataError, match="is not a task of sequence"):
            check_task(params, name)


def test_every_catalogued_path_stays_below_its_folder() -> None:
    for name in catalog()["files"]:
        assert not PurePosixPath(name).is_absolute()
        assert ".." not in PurePosixPath(name).parts


# keys stay secret


def holding(folder: Path, *secrets: str) -> list[str]:
    """The files below the folder that hold one of the secrets."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path) for path in files if any(secret.encode() in path.read_bytes() for secret in secrets)]


def completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}).encode()


class Server(ThreadingHTTPServer):
    """A language model that repeats the request's Authorization wherever `fault` says; without a fault it answers well."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Handler)
        self.url = f"http://{host}:{self.server_port}"
        self.faults: list[str] = []
        self.lasting = ""
        self.elsewhere = ""
        self.authorizations: list[str] = []

    def handle_error(self, *_: object) -> None:
        """A client that has gone away is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.do_POST()

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = self.headers.get("Authorization", "")
        number = len(self.server.authorizations)
        self.server.authorizations.append(said)
        fault = self.server.faults.pop(0) if self.server.faults else self.server.lasting
        status, headers = int(fault) if fault.isdigit() else 200, {"x-request-id": said, "retry-after-ms": "1"}
        body = json.dumps({"error": {"message": f"refused: {said}", "code": said}}).encode()
        if fault == "hang up":
            self.close_connection = True
            return
        if fault == "redirect":
            status, headers["Location"] = 307, f"{self.server.elsewhere}{self.path}"
        elif fault == "html":
            status, body, headers["Content-Type"] = 403, f"<html>{said}</html>".encode(), "text/html"
        elif fault == "not json":
            body = f"{{{said}".encode()
        elif fault == "answer":
            body = completion(f"Is it good or bad? The key is {said}.")
        elif fault == "hub":
            status, headers["X-Error-Code"], headers["X-Error-Message"] = 403, "GatedRepo", f"{said} has no access."
        elif not fault:
            body = completion(f"Reader {number}: is it good, or is it bad? {MARKUP}")
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Server]]:
    """The endpoint that the environment names, and another host; both keys are set, and no proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("SAPO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with Server() as endpoint, Server("127.0.0.2") as other:
        for server in (endpoint, other):
            Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        endpoint.elsewhere = other.url
        monkeypatch.setenv("OPENAI_BASE_URL", f"{endpoint.url}/v1")
        yield endpoint, other
        endpoint.shutdown()
        other.shutdown()


@pytest.mark.parametrize("fault", ["400", "401", "404", "429", "500", "html", "hang up", "not json", "answer", "redirect"])
def test_the_key_is_in_no_error_and_no_file_whatever_the_server_repeats(
    servers: tuple[Server, Server], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    endpoint, other = servers
    monkeypatch.setattr(api, "RETRIES", 1)
    monkeypatch.setattr("sys.argv", ["paraphrase.py"])
    endpoint.lasting, other.lasting = fault, "401"
    task = Task("reviews", "Is it good or bad?", "Answer:", ["good", "bad"], "en", 8, {}, [], [])
    settings = Paraphrase(source="api", count=2, path="-", model="m", temperature=0.5, concurrency=2)
    with pytest.raises(SystemExit) as ended:
        run(lambda: from_api(task, settings), OPENAI)
    assert endpoint.authorizations[0] == f"Bearer {KEY}"
    assert str(ended.value).startswith("error: reviews: ")
    printed = capfd.readouterr()
    assert KEY not in f"{ended.value}{printed.out}{printed.err}"
    assert holding(tmp_path, KEY) == []
    assert [said for said in other.authorizations if said] == []  # the key goes to the address that was named, and no other
    assert bool(other.authorizations) == (fault == "redirect")


def test_a_stage_keeps_the_keys_that_it_needs_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for needed in ((), OPENAI, HUB):
        for name in (*OPENAI, *HUB):
            monkeypatch.setenv(name, KEY)
        monkeypatch.setattr("sys.argv", ["stage.py"])
        child = [sys.executable, "-c", "import json, os; print(json.dumps(list(os.environ)))"]
        seen: list[set[str]] = []
        run(lambda: seen.append(set(json.loads(subprocess.check_output(child)))), needed)  # noqa: B023
        assert seen[0] & {*OPENAI, *HUB} == set(needed)


def test_every_stage_says_which_keys_it_needs() -> None:
    started = {path.stem: path.read_text().splitlines()[-1].strip() for path in (REPOSITORY / "src").glob("*.py")}
    assert started["paraphrase"] == "run(paraphrase, OPENAI)"
    assert started["base_model"] == "run(base_model, HUB)"
    for stage in ("prepare", "select_prompt", "train", "evaluate", "report"):
        assert ", " not in started[stage]


def test_the_hubs_token_is_in_no_error(servers: tuple[Server, Server], tmp_path: Path) -> None:
    endpoint, _ = servers
    endpoint.lasting = "hub"
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["model"] |= {"source": "hub", "id": "someone/gated", "revision": "0" * 40, "wheel": None}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    hub = {"HF_ENDPOINT": endpoint.url, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0", "SAPO_TRACEBACK": "1"}
    command = [sys.executable, str(REPOSITORY / "src/base_model.py")]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | hub, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"Bearer {TOKEN}" in endpoint.authorizations
    assert "error: model.id: cannot fetch someone/gated" in done.stderr
    assert "***" in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert holding(tmp_path, TOKEN) == []


# what others wrote is shown as it is


def test_a_model_card_shows_any_text_as_text() -> None:
    tasks = [
        {"task": f"t{number}", "rows": 3, "prompt": {"instruction": f"{MARKUP}\n---\n# {number}\n```\n<b>"}}
        for number in range(11)
    ]
    base = {"id": f"a: [b]\nlicense: x\n---\n{MARKUP}", "name": MARKUP, "revision": MARKUP, "fingerprint": "f"}
    card = model_card({"base": base, "sequence": MARKUP, "method": {"name": MARKUP}, "lora": {"r": 8}, "tasks": tasks})
    read = ModelCard(card)  # as the hub reads it
    assert read.data.to_dict() == {"base_model": base["id"], "library_name": "peft", "tags": ["lora", "continual-learning"]}
    page = MarkdownIt("commonmark").render(read.text)
    for tag in ("<script", "<b>", "<img", "<a ", "<hr"):
        assert tag not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt; [x](javascript:alert(1))") == 11 + 5
    assert page.count("<h1>") == 1


def test_figures_show_any_name_as_it_is(tmp_path: Path) -> None:
    order = ["a$b$", "$\\frac{a$", "%s {x} <b>&amp;", "_under"]
    training = [{"task": task, "step": step, "loss": 1.0 / step} for task in order for step in (1, 2)]
    figures.training(tmp_path / "training.png", training, order, MARKUP)
    scored = [{"task": task, "candidate": n, "loss": 1.0 + n, "rows": 4, "chosen": n == 0} for task in order for n in (0, 1)]
    figures.candidates(tmp_path / "candidates.png", scored, order, "$x$")
    figures.candidates(tmp_path / "formula.png", scored, order, "x")
    with figures.plt.rc_context({"text.parse_math": True}), pytest.raises(ValueError, match="frac"):
        figures.training(tmp_path / "parsed.png", training, order, MARKUP)
    figures.plt.close("all")
    pictures = [(tmp_path / f"{name}.png").read_bytes() for name in ("training", "candidates", "formula")]
    assert all(len(picture) > 5000 for picture in pictures)
    assert pictures[1] != pictures[2]  # the dollars are drawn


# the whole pipeline, with keys in its environment and a server that repeats them


def test_a_whole_run_with_a_language_model_writes_no_key_and_shows_no_markup(
    servers: tuple[Server, Server], tmp_path: Path
) -> None:
    endpoint, _ = servers
    project, path = tmp_path / "project", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name in ("src", "conf", ".dvc/plots"):
        shutil.copytree(REPOSITORY / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config"):
        shutil.copy(REPOSITORY / name, project / name)
    (project / "mine/reviews").mkdir(parents=True)
    rows = [{"sentence": f"{n} {MARKUP}", "label": "good" if n % 2 else "bad"} for n in range(4)]
    for split in ("train", "test"):
        (project / f"mine/reviews/{split}.json").write_text(json.dumps(rows))
    about = {"instruction": f"Is it good or bad? {MARKUP}", "suffix": "Answer:", "labels": ["good", "bad"]}
    (project / "mine/instructions.json").write_text(json.dumps({"reviews": about, "../../escaped": about}))
    sequence = {"name": "mine", "source": "folder", "path": "mine", "tasks": {"reviews": {"after": "base"}}, "last": "reviews"}
    (project / "conf/sequence/mine.yaml").write_text(yaml.safe_dump(sequence))
    overrides = ["sequence=mine", "model=tiny_llama", "data.test_rows=2", "paraphrase.source=api", "paraphrase.count=2"]
    overrides += ["prompt.max_tokens=1500", "evaluate.max_new_tokens=3", "train.learning_rate=0.01"]
    compose_and_dump(str(project / "params.yaml"), str(project / "conf"), None, "config", "", overrides)
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "HOME": str(tmp_path / "home")}

    def call(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=project, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    for command in ("init -q", "add -A", "-c user.name=test -c user.email=test@example.org commit -qm start"):
        assert call("git", *command.split()).returncode == 0
    endpoint.lasting = "401"
    refused = call("dvc", "repro", "-v", "paraphrase@reviews")
    endpoint.lasting, endpoint.faults = "", ["answer", "500", "not json"]
    whole = call("dvc", "repro", "-v")
    page = call("dvc", "plots", "show", "-o", "page")
    assert (refused.returncode > 0, whole.returncode, page.returncode) == (True, 0, 0), (
        refused.stdout[-2000:] + whole.stdout[-20000:]
    )
    assert f"Bearer {KEY}" in endpoint.authorizations
    assert "error: reviews: no answer from the endpoint (status 401: " in refused.stdout
    record = json.loads((project / "data/paraphrases/reviews.json").read_text())
    assert record["rejected"] == {"it repeats the key": 1, "the answer is not valid JSON": 1}
    assert [MARKUP in text for text in record["candidates"]] == [True] * 3

    for secret in (KEY, TOKEN):
        assert secret not in refused.stdout + whole.stdout + page.stdout
    assert holding(tmp_path, KEY, TOKEN) == []
    assert list((project / ".dvc/cache").rglob("*"))
    assert list((tmp_path / "cache").rglob("*.json"))  # of the language model's answers
    assert not list(tmp_path.rglob("*escaped*"))

    shown = (project / "page/index.html").read_text(encoding="utf-8")
    assert "reviews" in shown
    assert "alert(1)" not in shown  # no instruction, label or answer is in the plots' data
    card = (project / "models/reviews/README.md").read_text(encoding="utf-8")
    assert "alert(1)" in card
    assert "<script" not in MarkdownIt("commonmark").render(card.split("---\n", 2)[2])
    assert all(torch.isfinite(torch.tensor(entry["loss"])) for entry in json_of(project / "models/reviews/lineage.json"))


def json_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["tasks"][0]["history"]


# the scans of `make security`


def test_the_secret_scan_finds_a_planted_key_and_nothing_else(tmp_path: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def scan() -> subprocess.CompletedProcess[str]:
        return subprocess.run([REPOSITORY / ".ci/secrets", tmp_path], env=environment, capture_output=True, text=True)

    for name in ("src", "conf"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    clean = scan()
    assert (clean.returncode, clean.stdout) == (0, "detect-secrets: no key or password found\n"), clean.stdout
    planted = {
        "src/sapo/aws.py": "name = '" + "AKIA" + "IOSFODNN7EXAMPLQ'\n",
        "conf/openai.yaml": "api_key: " + "sk-Zq8Rt2Lw9Xv4" + "T3BlbkFJ" + "Kp6Yd3Ms7Hn1\n",
        "notes.txt": "-----BEGIN RSA " + "PRIVATE KEY-----\n",
    }
    for name, content in planted.items():
        (tmp_path / name).write_text(content)
    found = scan()
    assert found.returncode != 0
    for name in planted:
        assert f"Location:    {name}:1" in found.stdout


class Advisories(BaseHTTPRequestHandler):
    """An OSV service that knows one package's vulnerability."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {"id": "OSV-1", "summary": "bad", "details": "", "modified": "2026-01-01T00:00:00Z", "aliases": []}
        known |= {"affected": [{"package": {"name": "pyyaml", "ecosystem": "PyPI"}, "versions": ["6.0.3"], "ranges": []}]}
        body = json.dumps({"vulns": [known]} if asked["package"]["name"] == "pyyaml" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_the_audit_fails_for_a_known_vulnerability_and_not_without_a_service(tmp_path: Path) -> None:
    def audit(url: str, *pins: str) -> tuple[int, str]:
        (tmp_path / "pins.txt").write_text("".join(f"{pin}\n" for pin in pins))
        options = ["-s", "osv", "--osv-url", url, "-r", str(tmp_path / "pins.txt"), "--no-deps", "--disable-pip"]
        options += ["--cache-dir", str(tmp_path / "cache")]
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        command = [sys.executable, str(REPOSITORY / ".ci/audit.py"), *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout

    with ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert audit(url, "fsspec==2026.9.0") == (0, "pip-audit: 1 packages looked up, 0 known vulnerabilities\n")
        status, told = audit(url, "fsspec==2026.9.0", "PyYAML==6.0.3")
        assert status == 1
        assert "pyyaml 6.0.3: OSV-1" in told
        server.shutdown()
    assert audit(url, "fsspec==2026.9.0") == (0, "pip-audit: skipped, no advisory service answers from here\n")
