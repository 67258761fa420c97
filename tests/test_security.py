"""What others wrote is data: nothing is executed, no name is a path, no key is in the repository.

Here: the repository as a whole. What a single room guards is tested beside it.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from evaluate import evaluate
from paraphrase import paraphrase
from sapo.config import load_params
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_yaml
from select_prompt import select
from train import train

REPOSITORY = Path(__file__).parent.parent


# nothing is executed

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "torch.load",
    "pandas.read_pickle",
    "pd.read_pickle",
}
FORBIDDEN_CALLS |= {"os.system", "os.popen", "subprocess.getoutput"}
FORBIDDEN_CALLS |= {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"}
FORBIDDEN_OPTIONS = {"shell", "allow_pickle", "trust_remote_code"}


def dangers(source: str) -> list[str]:
    """The calls, options and imports of a program that could run what a file or a text holds."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found += [module] * (module.split(".")[0] in FORBIDDEN_MODULES)
            found += sorted({f"{module}.{name.name}" for name in node.names} & FORBIDDEN_CALLS)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found += [name] * (name in FORBIDDEN_CALLS)
            options = {option.arg: option.value for option in node.keywords}
            for option, value in options.items():
                off = isinstance(value, ast.Constant) and not value.value
                found += [f"{option}="] * (option in FORBIDDEN_OPTIONS and not off)
                found += ["weights_only="] * (option == "weights_only" and off)
            if name.split(".")[-1] == "YAML":  # of ruamel.yaml
                found += ["YAML"] * (ast.unparse(options.get("typ", ast.Constant(""))) != "'safe'")
    return found


DANGERS = """import pickle
from joblib import load
import numpy, dill
eval(text)
exec(text)
torch.load(path)
torch.load(path, weights_only=False)
np.load(path, allow_pickle=True)
subprocess.run(text, shell=True)
yaml.load(text)
yaml.load(text, yaml.Loader)
from yaml import unsafe_load
YAML(typ="unsafe").load(text)
ruamel.yaml.YAML().load(text)
os.system(text)
f(x, trust_remote_code=settings.trust)
"""


@pytest.mark.parametrize(
    "source", [*DANGERS.splitlines(), "class A(yaml.FullLoader): pass\nyaml.load(text, A)"]
)
def test_the_scan_below_sees_what_it_looks_for(source: str) -> None:
    assert dangers(source)


def test_no_program_unpickles_evaluates_or_starts_a_shell() -> None:
    places = ("src/**/*.py", "benchmarks/*.py", "tools/*.py", ".ci/*.py")
    programs = sorted(path for place in places for path in REPOSITORY.glob(place))
    assert len(programs) > 30
    found = {
        str(path.relative_to(REPOSITORY)): dangers(path.read_text(encoding="utf-8")) for path in programs
    }
    assert {path: what for path, what in found.items() if what} == {}


def test_yaml_builds_no_object(tmp_path: Path) -> None:
    attack = tmp_path / "attack.yaml"
    for tag in ("object/apply", "object/new"):
        attack.write_text(f"key: !!python/{tag}:os.mkdir [{tmp_path / 'executed'}]\n")
        with pytest.raises(DataError, match=r"attack\.yaml"):
            read_yaml(attack, missing="-")
    assert not (tmp_path / "executed").exists()


# a name is not a path


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "/etc/passwd", "..", ".hidden", "a;touch x", "$(touch x)", "a\nb", "-rf", ""]
)
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


@pytest.mark.parametrize("stage", [paraphrase, select, train, evaluate], ids=lambda stage: stage.__name__)
def test_a_stages_argument_is_one_of_the_tasks(
    stage: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = load_params(REPOSITORY / "params.yaml").sequence.last
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("../models/base", f"{last}/../base", "", *(["base"] if stage is not evaluate else [])):
        with pytest.raises(DataError, match="is not a task of sequence"):
            stage(name)
    assert list(tmp_path.iterdir()) == [tmp_path / "params.yaml"]


# the scans of `make security`


def test_the_secret_scan_finds_a_planted_key_and_nothing_else(tmp_path: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def scan() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [REPOSITORY / ".ci/secrets", tmp_path], env=environment, capture_output=True, text=True
        )

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
        known = {
            "id": "OSV-1",
            "summary": "bad",
            "details": "",
            "modified": "2026-01-01T00:00:00Z",
            "aliases": [],
        }
        known |= {
            "affected": [
                {"package": {"name": "pyyaml", "ecosystem": "PyPI"}, "versions": ["6.0.3"], "ranges": []}
            ]
        }
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
        options = [
            "-s",
            "osv",
            "--osv-url",
            url,
            "-r",
            str(tmp_path / "pins.txt"),
            "--no-deps",
            "--disable-pip",
        ]
        options += ["--cache-dir", str(tmp_path / "cache")]
        environment = {
            name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
        }
        command = [sys.executable, str(REPOSITORY / ".ci/audit.py"), *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout

    with ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert audit(url, "fsspec==2026.9.0") == (
            0,
            "pip-audit: 1 packages looked up, 0 known vulnerabilities\n",
        )
        status, told = audit(url, "fsspec==2026.9.0", "PyYAML==6.0.3")
        assert status == 1
        assert "pyyaml 6.0.3: OSV-1" in told
        server.shutdown()
    assert audit(url, "fsspec==2026.9.0") == (
        0,
        "pip-audit: skipped, no advisory service answers from here\n",
    )
