"""The model card of an adapter."""

from typing import Any


def _fenced(text: str) -> str:
    """The text as an indented code block: whatever it holds, a renderer shows it as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def model_card(lineage: dict[str, Any]) -> str:
    """A card in the Hugging Face format: what was learned, in which order, under which prompt, and how to load it."""
    base, tasks = lineage["base"], lineage["tasks"]
    prompts = "\n".join(
        f"{number}. `{entry['task']}` ({entry['rows']} rows)\n\n{_fenced(entry['prompt']['instruction'])}\n"
        for number, entry in enumerate(tasks, start=1)
    )
    revision = f" at revision {base['revision']}" if base["revision"] else ""
    return f"""---
base_model: {base["id"]}
library_name: peft
tags: [lora, continual-learning]
---

# {base["name"]} after {len(tasks)} of the tasks of `{lineage["sequence"]}`, method `{lineage["method"]["name"]}`

A LoRA adapter for {base["id"]}{revision}. It holds one block of rank {lineage["lora"]["r"]} a task, in the order below, each
learned while the earlier ones were frozen and active. Stock PEFT loads it:

    model = PeftModel.from_pretrained(base_model, "this folder")

The base weights have the fingerprint `{base["fingerprint"]}`; `lineage.json` records every setting, candidate prompt and loss.

## Tasks and the instruction each was trained with

{prompts}"""
