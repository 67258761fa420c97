"""The model card of an adapter."""

import re

import yaml

from sapo.artifacts.lineage import LINEAGE, WEIGHTS, Lineage

MARKS = re.compile(r"([\\`*\[\]<>&|])")  # what a Markdown renderer would take for more than text


def _plain(text: str) -> str:
    """The text in one line that a renderer shows as it is."""
    return MARKS.sub(r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """The text as code within a line."""
    return "`" + " ".join(text.split()).replace("`", "'") + "`"


def _block(text: str) -> str:
    """The text as an indented code block: whatever it holds, a renderer shows it as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _holds(lineage: Lineage) -> str:
    """What the adapter holds, and how it was learned."""
    rank, replay = lineage.lora.r, lineage.method.replay
    text = {
        "stacked": f"It holds one block of rank {rank} a task, in the order below,\n"
        "each learned while the earlier ones were frozen and active.",
        "joint": f"It holds one LoRA of rank {rank}, trained from the base model\n"
        "on the rows of all tasks below at once.",
        "single": f"It holds one LoRA of rank {rank}, trained on from task to task in the order below.",
    }[lineage.method.adapter]
    if replay:
        text += f"\nEach task was trained together with {100 * replay:g} % of every earlier task's rows."
    return text


def _loading(lineage: Lineage) -> str:
    if not lineage.base.adapter:
        return """Stock PEFT loads it:

    model = PeftModel.from_pretrained(base_model, "this folder")"""
    digest = lineage.base.adapter[WEIGHTS]
    return f"""Its base is that model *with another adapter*, \
whose `{WEIGHTS}` has the sha256 `{digest}`. Without that one it is another, wrong model. \
Stock PEFT loads both:

    base_model = PeftModel.from_pretrained(base_model, "the folder of that adapter").merge_and_unload()
    model = PeftModel.from_pretrained(base_model, "this folder")"""


def model_card(lineage: Lineage) -> str:
    """A Hugging Face model card: what was learned, in which order, under which prompt, and how to load it."""
    base, tasks = lineage.base, lineage.tasks
    about = {"base_model": base.id, "library_name": "peft", "tags": ["lora", "continual-learning"]}
    header = yaml.safe_dump(about, sort_keys=False, default_flow_style=None, allow_unicode=True, width=1000)
    prompts = "\n".join(  # headings, not a list: in a list's item four spaces make no code block
        f"### {number}. {_code(entry.task)} ({entry.rows} rows)\n\n{_block(entry.prompt.instruction)}\n"
        for number, entry in enumerate(tasks, start=1)
    )
    revision = f" at revision {_plain(base.revision)}" if base.revision else ""
    sequence, method = _code(lineage.sequence), _code(lineage.method.name)
    return f"""---
{header}---

# {_plain(base.name)} after {len(tasks)} of the tasks of {sequence}, method {method}

A LoRA adapter for {_plain(base.id)}{revision}. {_holds(lineage)} {_loading(lineage)}

The base weights have the fingerprint `{base.fingerprint}`; `{LINEAGE}` records every setting, \
prompt and training step.

## Tasks and the instruction each was trained with

{prompts}"""
