"""What all files of the pipeline share: a schema, its number, and one line for whatever does not fit it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sapo.runtime.errors import ArtifactError, DataError
from sapo.runtime.files import parse_json, read_text

SomeModel = TypeVar("SomeModel", bound=BaseModel)


class Part(BaseModel):
    """A piece of an artifact: exact types, no missing or unknown field, no number that is not finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Artifact(Part):
    """A file, or a line of a JSONL file. `format` is its schema's number: raise FORMAT when fields change.

    STAGE: the stage that makes such files, where no remote has them.
    """

    FORMAT: ClassVar[int] = 1
    STAGE: ClassVar[str | None] = None
    format: int = 0

    @model_validator(mode="before")
    @classmethod
    def _numbered(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        if content.get("format", cls.FORMAT) != cls.FORMAT:
            raise ValueError(f"format {content['format']!r:.40}, this program reads format {cls.FORMAT}")
        return {"format": cls.FORMAT} | content

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The content of a JSON file. Raises ArtifactError that names file and field for anything else."""
        with as_artifact(cls.STAGE):
            return cls.parse(read_text(path), str(path))

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """As `read`, of a text that comes from `where`."""
        with as_artifact(cls.STAGE):
            content = parse_json(text, where)
        if not isinstance(content, dict):
            raise ArtifactError(f"{where}: expected an object, found {type(content).__name__}", cls.STAGE)
        if content.get("format") != cls.FORMAT:
            number = f"is of format {content['format']!r:.40}" if "format" in content else ""
            found = number or "has no format number"
            raise ArtifactError(
                f"{where} {found}, this program reads format {cls.FORMAT}: another version wrote it",
                cls.STAGE,
            )
        return validated(cls, content, where, cls.STAGE)

    @classmethod
    def read_lines(cls, path: str | Path) -> Iterator[Self]:
        """The lines of a JSONL file. Raises ArtifactError that names file, line and field."""
        with as_artifact(cls.STAGE):
            lines = read_text(path).removesuffix("\n").split("\n")
        for number, line in enumerate(lines, start=1):
            yield cls.parse(line, f"{path}, line {number}")

    def content(self) -> dict[str, Any]:
        """What is written: plain JSON values, in the order of the fields."""
        return self.model_dump(mode="json")


@contextmanager
def as_artifact(stage: str | None = None) -> Iterator[None]:
    """Make an error of reading one of the pipeline's own files, which `stage` makes."""
    try:
        yield
    except ArtifactError:
        raise
    except DataError as error:
        raise ArtifactError(str(error), stage) from None


def validated(kind: type[SomeModel], content: Any, where: str, stage: str | None = None) -> SomeModel:
    """The content, from `where`, as this model. Raises ArtifactError that names the first fault."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # pydantic puts the kind of a union's member among the fields
        field = ".".join(str(part) for part in first["loc"] if "[" not in str(part)) or "it"
        told = first["type"] in ("missing", "extra_forbidden", "value_error")
        found = "" if told else f", found {first['input']!r:.80}"
        message = first["msg"].removeprefix("Value error, ")
        raise ArtifactError(f"{where}: {field}: {message}{found}", stage) from None
