"""Section `method`: what a task is trained with, on which rows, and what becomes of the adapter before."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from sapo.selection.selectors import FIXED, ORIGINAL, SELECTORS
from sapo.settings.section import Name, Section

# What a stage trains: a new LoRA on top of those before; one LoRA from the base model, on the rows of all
# tasks so far; the one LoRA of the stage before, further
AdapterKind = Literal["stacked", "joint", "single"]


class Method(Section):
    name: Name
    # Which candidate a task is trained with: `original`, `fixed`, or a name of sapo.selection.selectors
    selector: str
    candidate: Annotated[int, Field(ge=0)] | None  # of selector `fixed`: its number, 0 is the original
    texts: dict[str, str] | None  # of selector `fixed`: task -> an instruction of one's own, in its place
    paraphrases: bool  # whether candidates beside the original are collected
    adapter: AdapterKind
    replay: Annotated[float, Field(ge=0, le=1)]  # share of each earlier task's rows trained again; 0: none
    orthogonal_weight: Annotated[float, Field(ge=0)]  # O-LoRA's lambda; 0: no such term

    @field_validator("selector")
    @classmethod
    def _known(cls, selector: str) -> str:
        if selector not in (known := [ORIGINAL, FIXED, *SELECTORS]):
            raise ValueError(f"{selector!r} is none of {', '.join(known)}")
        return selector

    @field_validator("texts")
    @classmethod
    def _say_something(cls, texts: dict[str, str] | None) -> dict[str, str] | None:
        for task, text in (texts or {}).items():
            if not text.strip():
                raise ValueError(f"the text for {task} is empty: write an instruction")
            if any("\ud800" <= letter <= "\udfff" for letter in text):
                raise ValueError(f"the text for {task} holds half of a character (a lone surrogate)")
        return texts

    @model_validator(mode="after")
    def _candidates_serve_the_selector(self) -> "Method":
        if self.selector == FIXED:
            if self.candidate is None and not self.texts:
                raise ValueError("selector 'fixed' needs candidate, or texts for all tasks")
            if self.candidate and not self.paraphrases:
                raise ValueError(f"candidate {self.candidate} is a paraphrase: set paraphrases to true")
            return self
        if self.candidate is not None or self.texts is not None:
            raise ValueError("candidate and texts belong to selector 'fixed': leave them null")
        if self.paraphrases == (self.selector == ORIGINAL):
            raise ValueError(
                "paraphrases must be true for every selector but 'original' and 'fixed', "
                "and false for 'original'"
            )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> "Method":
        if self.orthogonal_weight and self.adapter != "stacked":
            raise ValueError(
                f"orthogonal_weight must be 0 with adapter {self.adapter!r}: "
                "there are no earlier LoRAs beside the one that is trained"
            )
        if self.replay and self.adapter == "joint":
            raise ValueError("replay must be 0 with adapter 'joint': it trains on all earlier rows anyway")
        return self

    def check_tasks(self, tasks: list[str], count: int) -> None:
        """Refuse (ValueError) a fixed prompt that the tasks cannot have. count: their paraphrases."""
        texts = self.texts or {}
        if odd := [task for task in texts if task not in tasks]:
            raise ValueError(
                f"method.texts: {odd[0]!r} is not a task of the sequence: it has {', '.join(tasks)}"
            )
        missing = [task for task in tasks if task not in texts]
        if self.selector != FIXED or not missing:
            return
        if self.candidate is None:
            raise ValueError(f"method.texts has no text for {missing[0]}, and method.candidate is null")
        if self.candidate > count:
            raise ValueError(
                f"method.candidate is {self.candidate}, but the last candidate is number {count}: "
                "raise paraphrase.count"
            )
