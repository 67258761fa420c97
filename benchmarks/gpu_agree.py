"""The part `agree` of gpu.py: the same losses, choices and greedy answers on two devices."""

import argparse
from collections.abc import Sequence

import torch
from common import set_up
from gpu_run import Entry, Run, sequence_name, tasks_for
from transformers import PreTrainedModel

from sapo.answers.greedy import generate
from sapo.artifacts.chosen_prompt import Candidate
from sapo.candidates.bank import from_bank
from sapo.models.load import load_model
from sapo.selection.measure import measure

DEFAULTS = ["model.dtype=float32", "selection.batch_tokens=8192", "evaluate.batch_tokens=8192"]
LIMIT = 16  # tokens of an answer
Choice = tuple[int, list[Candidate]]


def agree(arguments: argparse.Namespace, run: Run) -> None:
    """Measure 21 candidates and answer `agree_rows` rows of each task on this device and on the CPU."""
    rows, paraphrases = (4, 2) if arguments.tiny else (arguments.agree_rows, 20)
    chosen = [f"sequence={sequence_name(arguments)}", f"selection.rows={rows}"]
    if arguments.tiny:
        chosen.append("model=tiny_llama")
    setup = set_up([*DEFAULTS, *chosen, *arguments.overrides])
    tasks = tasks_for(arguments, setup.params.sequence.order, rows)
    run.plan(setup.params, 2 * len(tasks), summary)
    models = {"here": setup.model(), "cpu": load_model(setup.folder, "float32", torch.device("cpu"))}
    if models["here"].device.type == "cpu":
        print("  no GPU: the processor is compared with itself", flush=True)
    stop = {setup.pad, setup.tokenizer.eos_token_id}
    for task in tasks:
        texts = [task.instruction, *from_bank(task, paraphrases)]

        def choose(model: PreTrainedModel) -> Choice:
            return measure(model, setup.encoder, task, texts, setup.params.selection, "exhaustive")  # noqa: B023

        here, cpu = (choose(model) for model in models.values())
        run.add(f"{task.name}, {len(texts)} candidates x {len(task.train)} rows", **losses_apart(here, cpu))
        prompts, budget = setup.rows(task, split="test"), setup.params.evaluate.batch_tokens
        answers = [
            generate(model, prompts, stop, setup.pad, LIMIT, budget, f"{task.name}, {place}")
            for place, model in models.items()
        ]
        run.add(f"{task.name}, {len(prompts)} answers", **answers_apart(*answers))


def losses_apart(here: Choice, cpu: Choice) -> Entry:
    """Losses in nats a token, their largest difference, and whether both choose the same candidate."""
    found, expected = ([one.loss or 0.0 for one in candidates] for _, candidates in (here, cpu))
    return {
        "largest_difference": max(abs(a - b) for a, b in zip(found, expected, strict=True)),
        "same_choice": here[0] == cpu[0],
        "losses": found,
        "losses_cpu": expected,
    }


def answers_apart(here: Sequence[list[int]], cpu: Sequence[list[int]]) -> Entry:
    """How many answers are the same, token for token."""
    same = sum(a == b for a, b in zip(here, cpu, strict=True))
    return {"same_answers": same, "answers": len(here), "tokens": list(here), "tokens_cpu": list(cpu)}


def summary(steps: list[Entry]) -> Entry:
    """Over all tasks so far."""
    losses = [step for step in steps if "same_choice" in step]
    answers = [step for step in steps if "same_answers" in step]
    return {
        "largest difference of a loss, nats a token": max(
            (step["largest_difference"] for step in losses), default=None
        ),
        "same choices": f"{sum(step['same_choice'] for step in losses)} of {len(losses)}",
        "same answers": f"{sum(step['same_answers'] for step in answers)} of "
        f"{sum(step['answers'] for step in answers)}",
    }
