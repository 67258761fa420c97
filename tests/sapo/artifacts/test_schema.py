"""What holds for every artifact: it reads back as written, and one line names file and field that are wrong.

The classes are found, and examples made from their fields: a new artifact is tested without being named here.
"""

import json
import math
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel, JsonValue, ValidationError

import sapo.artifacts
from laboratory import REPOSITORY
from sapo.artifacts.schema import Artifact
from sapo.config import Section, load_params
from sapo.runtime.errors import ArtifactError
from sapo.runtime.outputs import write_json, write_jsonl

MODULES = [import_module(f"sapo.artifacts.{found.name}") for found in iter_modules(sapo.artifacts.__path__)]
WRONG = {str: [7, None, ["text"]], int: ["3", 1.5, True], float: ["0.5", True, {}], bool: [1, "true"]}
Path_ = tuple[str | int, ...]


def subclasses(kind: type[Artifact]) -> Iterator[type[Artifact]]:
    for found in kind.__subclasses__():
        yield found
        yield from subclasses(found)


ARTIFACTS = sorted(subclasses(Artifact), key=lambda kind: kind.__name__)
each = pytest.mark.parametrize("kind", ARTIFACTS, ids=lambda kind: kind.__name__)


# Examples


def sections() -> dict[type, BaseModel]:
    """A valid value of every section of the settings."""
    params = load_params(REPOSITORY / "params.yaml")
    values = [value for _, value in params] + [params.model.wheel]
    return {type(value): value for value in values if isinstance(value, Section)}


SECTIONS = sections()


def example(kind: Any, empty: bool) -> Any:
    """A value of a type; `empty`: null wherever null may stand, and lists and dictionaries of nothing."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is JsonValue:
        return {"any": [1, 0.5, "text", True, None]}
    if kind in SECTIONS:
        return SECTIONS[kind]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_validate(fields_of(kind, empty))
    if origin is Literal:
        return arguments[0]
    if origin in (Union, UnionType):
        return None if empty and type(None) in arguments else example(arguments[0], empty)
    if origin is list:
        return [] if empty else [example(arguments[0], empty)]
    if origin is dict:
        named = get_origin(arguments[0]) is Literal  # every one of the names may be needed
        names = get_args(arguments[0]) if named else [] if empty else ["name"]
        return {name: example(arguments[1], empty) for name in names}
    return {str: "text ü \u2028", int: 3, float: 0.1, bool: True}[kind]


def fields_of(kind: type[BaseModel], empty: bool) -> dict[str, Any]:
    hints = get_type_hints(kind)
    content = {name: example(hints[name], empty) for name in kind.model_fields if name != "format"}
    if kind.model_config.get("extra") == "allow":
        content["more"] = example(get_args(hints["__pydantic_extra__"])[1], empty)
    return content


def made(kind: type[Artifact], empty: bool = False) -> Artifact:
    found = example(kind, empty)
    assert isinstance(found, kind)
    return found


# Where something may be wrong


def parts(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, BaseModel]]:
    """Every model within a value, with its path; one element of each list and dictionary."""
    if isinstance(value, BaseModel):
        yield path, value
        for name, inner in value:
            yield from parts(inner, (*path, name))
    elif isinstance(value, list | dict):
        entries = list(value.items() if isinstance(value, dict) else enumerate(value))
        for key, inner in entries[:1]:
            yield from parts(inner, (*path, key))


def leaves(content: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every plain value within JSON content, with its path."""
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, inner in entries:
        if isinstance(inner, dict | list):
            yield from leaves(inner, (*path, key))
        else:
            yield (*path, key), inner


def content_with(artifact: Artifact, path: Path_, change: Any) -> dict[str, Any]:
    """Its content, after `change` of the dictionary or list at the path."""
    content = artifact.content()
    inner = content
    for key in path:
        inner = inner[key]
    change(inner)
    return content


def refusal(kind: type[Artifact], content: Any) -> str:
    """What is said of this content in a file, after its name; as a line of a file it is refused too."""
    path = Path("folder/file.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ArtifactError) as refused:
        kind.read(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert message.isprintable(), message
    assert len(message) < 300
    write_jsonl("lines.jsonl", [made(kind).content()])
    with open("lines.jsonl", "a", encoding="utf-8") as lines:
        lines.write(json.dumps(content) + "\n")
    with pytest.raises(ArtifactError) as refused:
        list(kind.read_lines("lines.jsonl"))
    assert str(refused.value).startswith("lines.jsonl, line 2")
    return message.removeprefix(str(path))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def dotted(path: Path_) -> str:
    return ".".join(map(str, path))


@each
@pytest.mark.parametrize("empty", [False, True], ids=["full", "empty"])
def test_what_is_written_reads_back_equal_and_with_the_same_bytes(kind: type[Artifact], empty: bool) -> None:
    artifact = made(kind, empty)
    write_json("one.json", artifact.content())
    found = kind.read("one.json")
    assert found == artifact
    assert found.content() == artifact.content()
    write_json("again.json", found.content())
    assert Path("again.json").read_bytes() == Path("one.json").read_bytes()
    write_jsonl("lines.jsonl", [artifact.content()] * 2)
    assert list(kind.read_lines("lines.jsonl")) == [artifact] * 2


@each
def test_a_file_says_its_format_first(kind: type[Artifact]) -> None:
    content = made(kind).content()
    assert next(iter(content.items())) == ("format", kind.FORMAT)


@each
@pytest.mark.parametrize("number", [0, 999, "1", None, 1.5, [1]])
def test_another_format_is_named_before_anything_else_is_looked_at(kind: type[Artifact], number: Any) -> None:
    message = refusal(kind, {"format": number, "other": "fields"})
    assert message.startswith(f" is of format {number!r}, this program reads format {kind.FORMAT}: ")


@each
def test_a_file_without_a_format_and_one_that_holds_no_object_are_refused(kind: type[Artifact]) -> None:
    content = made(kind).content()
    del content["format"]
    assert refusal(kind, content).startswith(" has no format number, ")
    for other, name in ([content], "list"), ("text", "str"), (None, "NoneType"), (3, "int"):
        assert refusal(kind, other) == f": expected an object, found {name}"


@each
def test_a_missing_field_is_named_at_every_depth(kind: type[Artifact]) -> None:
    artifact = made(kind)
    for path, part in parts(artifact):
        for field in type(part).model_fields:
            if field == "format":  # tested above
                continue
            content = content_with(artifact, path, lambda inner, field=field: inner.pop(field))
            assert refusal(kind, content) == f": {dotted((*path, field))}: Field required"


@each
def test_a_field_too_many_is_named_at_every_depth(kind: type[Artifact]) -> None:
    artifact = made(kind)
    for path, part in parts(artifact):
        content = content_with(artifact, path, lambda inner: inner.update(unknown="text"))
        message = refusal(kind, content)
        assert message.startswith(f": {dotted((*path, 'unknown'))}")
        if type(part).model_config.get("extra") != "allow":  # else its type is wrong
            assert message == f": {dotted((*path, 'unknown'))}: Extra inputs are not permitted"


@each
def test_a_wrong_type_is_named_at_every_depth(kind: type[Artifact]) -> None:
    artifact = made(kind)
    tried = 0
    for path, part in parts(artifact):
        for field, about in type(part).model_fields.items():
            # `format` is the number alone; JsonValue takes anything; null is a type of its own
            if field == "format" or "JsonValue" in str(about.annotation):
                continue
            value = getattr(part, field)
            nullable = type(None) in get_args(about.annotation)
            for wrong in WRONG.get(type(value), ["text", 7.5]):
                if wrong is None and nullable:
                    continue
                content = content_with(artifact, path, lambda inner, f=field, w=wrong: inner.update({f: w}))
                message = refusal(kind, content)
                assert message.startswith(f": {dotted((*path, field))}"), message
                assert "Input should be" in message
                assert message.endswith(f", found {wrong!r}")
                tried += 1
    assert tried


@each
def test_a_number_that_is_not_finite_is_refused_in_a_file_and_in_the_program(kind: type[Artifact]) -> None:
    artifact = made(kind)
    for path, value in leaves(artifact.content()):
        if not isinstance(value, float):
            continue
        for bad, written in ((math.nan, "NaN"), (math.inf, "Infinity")):
            *above, key = path
            content = content_with(
                artifact, tuple(above), lambda inner, k=key, b=bad: inner.__setitem__(k, b)
            )
            assert refusal(kind, content) == f" is not valid JSON: {written} is not a finite number"
            if "any" in path:  # what is any JSON value is checked when it is written
                with pytest.raises(ValueError, match="not JSON compliant"):
                    write_json("out.json", content)
            else:
                with pytest.raises(ValidationError):
                    kind.model_validate(content)


@each
def test_a_file_that_is_missing_or_cut_off_is_named(kind: type[Artifact]) -> None:
    with pytest.raises(ArtifactError, match=r"^one\.json is missing$"):
        kind.read("one.json")
    with pytest.raises(ArtifactError, match=r"^lines\.jsonl is missing$"):
        list(kind.read_lines("lines.jsonl"))
    text = json.dumps(made(kind).content())
    Path("one.json").write_text(text[: len(text) // 2])
    with pytest.raises(ArtifactError, match=r"^one\.json is not valid JSON: "):
        kind.read("one.json")
    Path("lines.jsonl").write_text(f"{text}\n{text[: len(text) // 2]}")
    with pytest.raises(ArtifactError, match=r"^lines\.jsonl, line 2.* is not valid JSON: "):
        list(kind.read_lines("lines.jsonl"))


def test_the_artifacts_are_found() -> None:
    names = {kind.__name__ for kind in ARTIFACTS}
    assert {"About", "Lineage", "Scores", "RowScores", "Summary"} <= names
    assert all(kind.__module__.startswith("sapo.artifacts.") for kind in ARTIFACTS)
