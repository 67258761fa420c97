"""What all files of the pipeline share: a schema, its number, and one line for whatever does not fit it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sapo.runtime.errors import ArtifactError, DataError
from sapo.runtime.files import parse_json, read_jsonl, read_text


class Part(BaseModel):
    """A piece of an artifact: exact types, no missing or unknown field, no number that is not finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Artifact(Part):
    """A file, or a line of a JSONL file. `format` is its schema's number: raise FORMAT when fields change."""

    FORMAT: ClassVar[int] = 1
    format: int = 0

    @model_validator(mode="before")
    @classmethod
    def _numbered(cls, content: Any) -> Any:
        return {"format": cls.FORMAT} | content if isinstance(content, dict) else content

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The content of a JSON file. Raises ArtifactError that names file and field for anything else."""
        return cls.parse(_read(path), str(path))

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """As `read`, of a text that comes from `where`."""
        try:
            content = parse_json(text, where)
        except DataError as error:
            raise ArtifactError(str(error)) from None
        return cls.of(content, where)

    @classmethod
    def read_lines(cls, path: str | Path) -> Iterator[Self]:
        """The lines of a JSONL file. Raises ArtifactError that names file, line and field."""
        lines = read_jsonl(path)
        number = 0
        while True:
            try:
                content = next(lines)
            except StopIteration:
                return
            except DataError as error:
                raise ArtifactError(str(error)) from None
            number += 1
            yield cls.of(content, f"{path}, line {number}")

    @classmethod
    def of(cls, content: Any, where: str) -> Self:
        """The artifact of parsed JSON from `where`. Raises ArtifactError that names `where` and the field."""
        if not isinstance(content, dict):
            raise ArtifactError(f"{where}: expected an object, found {type(content).__name__}")
        if content.get("format") != cls.FORMAT:
            found = (
                f"is of format {content['format']!r:.40}" if "format" in content else "has no format number"
            )
            raise ArtifactError(
                f"{where} {found}, this program reads format {cls.FORMAT}: another version wrote it"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "it"
            found = (
                "" if first["type"] in ("missing", "extra_forbidden") else f", found {first['input']!r:.80}"
            )
            raise ArtifactError(f"{where}: {field}: {first['msg']}{found}") from None

    def content(self) -> dict[str, Any]:
        """What is written: plain JSON values, in the order of the fields."""
        return self.model_dump(mode="json")


def _read(path: str | Path) -> str:
    try:
        return read_text(path)
    except DataError as error:
        raise ArtifactError(str(error)) from None
