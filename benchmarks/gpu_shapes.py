"""The part `shapes` of gpu.py: a large model's shape with random weights, and how near the peak it runs."""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from statistics import median
from typing import Any

import answering
import scoring
import torch
import training
from common import Setup, set_up
from gpu_cost import cost
from gpu_run import Entry, Run, Timed, free, timed
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from sapo.answers.greedy import generate
from sapo.models.devices import device
from sapo.prompts.encoder import Encoded

# Of Qwen/Qwen3-8B, from its config.json
QWEN3_8B = {
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
TINY = QWEN3_8B | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
}
DEFAULTS = ["recipe=superni", "model=tiny_qwen3", "model.dtype=bfloat16", "lora.dropout=0.0"]
ANSWER = 4  # tokens, end of turn included


@dataclass(frozen=True)
class Sizes:
    """What runs. lengths: fewest and most tokens of a scored row.

    pass_rows, score_rows, answer_rows: the peers' batches in training, scoring and answering.
    """

    config: dict[str, Any]
    candidates: int = 21
    rows: int = 250
    shared: int = 96
    lengths: tuple[int, int] = (160, 640)
    train_rows: int = 64
    train_length: int = 1536
    prompts: int = 64
    limit: int = 64
    matrix: int = 8192
    pass_rows: int = 2
    score_rows: int = 8
    answer_rows: int = 32


FULL = Sizes(QWEN3_8B)
SMALL = Sizes(TINY, 3, 8, 12, (20, 40), 8, 64, 4, 4, 256, 2, 4, 4)


@dataclass(frozen=True)
class Shaped(Setup):
    """A Setup whose model has the shape of `sizes` and random weights. Its tokenizer only pads."""

    sizes: Sizes

    def model(self) -> PreTrainedModel:
        torch.manual_seed(self.params.seed)
        config = AutoConfig.for_model("qwen3", **self.sizes.config)
        with torch.device(device()):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                config, dtype=getattr(torch, self.params.model.dtype)
            )
        return model.eval()


def shapes(arguments: argparse.Namespace, run: Run) -> None:
    """First each kind of work once, ours and the peers', then the other candidates."""
    sizes = SMALL if arguments.tiny else FULL
    chosen = ["train.batch_size=8"] if arguments.tiny else []
    base = set_up([*DEFAULTS, *chosen, *arguments.overrides])
    setup = Shaped(base.params, base.folder, base.tokenizer, base.encoder, sizes)
    peers = ["trainer"] + (["trl"] if find_spec("trl") else [])
    # The peak, candidates ours and one by Trainer, trainings, answers by both
    named = setup.params.model.model_copy(update={"name": "shape", "id": "qwen3"})
    shown = setup.params.model_copy(update={"model": named})
    run.plan(shown, 1 + sizes.candidates + 1 + 1 + len(peers) + 2, partial(summary, sizes=sizes))
    peak = matrix_peak(sizes.matrix)
    run.add(
        f"bfloat16 product of {sizes.matrix} x {sizes.matrix} matrices", flops_per_s=peak, sizes=asdict(sizes)
    )
    if "trl" not in peers:
        print("  training trl: left out, TRL is not installed", flush=True)
    score(run, setup, peak, range(1), ["ours", "trainer"])
    train(run, setup, peak, ["ours", *peers])
    answer(run, setup)
    score(run, setup, peak, range(1, sizes.candidates), ["ours"])


def matrix_peak(size: int) -> float:
    """Operations a second of a product of two random matrices in bfloat16: the median of ten."""
    a, b = (torch.randn(size, size, device=device()).to(torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    return 2 * size**3 / median(timed(lambda: a @ b).seconds for _ in range(10))


def token_rows(sizes: Sizes, count: int, lengths: tuple[int, int], seed: int) -> list[Encoded]:
    """Rows of random tokens, the first `sizes.shared` the same; whole lengths evenly from fewest to most."""
    draw = random.Random(seed)
    least, most = lengths
    tokens = partial(draw.choices, range(3, sizes.config["vocab_size"]))
    shared, rows = tokens(k=sizes.shared), []
    for number in range(count):
        own = least + (most - least) * number // max(count - 1, 1) - sizes.shared - ANSWER
        rows.append(Encoded([*shared, *tokens(k=own)], tokens(k=ANSWER)))
    draw.shuffle(rows)
    return rows


def attempt(
    run: Run, step: str, prepare: Callable[[], Callable[[], Any]], figures: Callable[[Timed], Entry]
) -> None:
    """Time what `prepare` returns. A step that fails, as for want of memory, does not end the part."""
    free()
    try:
        found = timed(prepare())
    except Exception as error:
        run.fail(step, error)
        return
    run.add(step, seconds=found.seconds, **figures(found), peak_gib=found.peak_gib)


def rates(rows: Sequence[Encoded], operations: float, peak: float, found: Timed) -> Entry:
    tokens = sum(len(row.prompt) + len(row.answer) for row in rows)
    return {
        "tokens": tokens,
        "tokens_per_s": tokens / found.seconds,
        "share_of_peak": operations / found.seconds / peak,
        "loss": found.value[0],
    }


def score(run: Run, setup: Shaped, peak: float, candidates: Sequence[int], sides: Sequence[str]) -> None:
    """A candidate's rows by each side; the first use of each kernel, with few rows, is not timed."""
    sizes, model = setup.sizes, setup.model()
    for number in candidates:
        rows = token_rows(sizes, sizes.rows, sizes.lengths, seed=number)
        for side in sides:
            losses = partial(scoring.SIDES[side], setup, model, size=sizes.score_rows)
            shared, every_logit = (sizes.shared, False) if side == "ours" else (0, True)
            needs = cost(model, rows, shared, every_logit).forward

            def prepare(losses: Any = losses, rows: list[Encoded] = rows) -> Callable[[], list[float]]:
                losses(candidates=[rows[: sizes.score_rows]])()
                whole: Callable[[], list[float]] = losses(candidates=[rows])
                return whole

            attempt(run, f"scoring {side}, candidate {number}", prepare, partial(rates, rows, needs, peak))


def train(run: Run, setup: Shaped, peak: float, sides: Sequence[str]) -> None:
    """One optimiser step of each side, after an untimed one of few rows."""
    sizes = setup.sizes
    rows = token_rows(sizes, sizes.train_rows, (sizes.train_length, sizes.train_length), seed=0)
    settings = setup.params.train.model_copy(update={"epochs": 1, "checkpoints": 1})
    # Keys and values cannot be shared where they are computed again
    prefix = 0 if settings.gradient_checkpointing else sizes.shared
    model = setup.model()
    costs = {
        side: cost(model, rows, *((prefix, False) if side == "ours" else (0, True))).training
        for side in sides
    }
    del model
    for side in sides:
        given = {} if side == "ours" else {"pass_rows": sizes.pass_rows}
        steps: Any = partial(training.SIDES[side], setup, train=settings, **given)

        def prepare(steps: Any = steps) -> Callable[[], list[float]]:
            steps(rows=rows[: sizes.pass_rows])()
            free()
            whole: Callable[[], list[float]] = steps(rows=rows)
            return whole

        attempt(run, f"training {side}, {len(rows)} rows", prepare, partial(rates, rows, costs[side], peak))


def answer(run: Run, setup: Shaped) -> None:
    """Greedy answers. Random weights hardly ever end one, so all are about as long as the limit."""
    sizes, model, stop = setup.sizes, setup.model(), {setup.pad}
    rows = token_rows(sizes, sizes.prompts, sizes.lengths, seed=0)
    budget = setup.params.evaluate.batch_tokens

    def ours(rows: list[Encoded], limit: int) -> list[list[int]]:
        return generate(model, rows, stop, setup.pad, limit, budget, "answering")

    def peer(rows: list[Encoded], limit: int) -> list[list[int]]:
        return answering.hf(model, rows, stop, setup.pad, limit, sizes.answer_rows, by_length=True)

    def new_tokens(found: Timed) -> Entry:
        tokens = sum(map(len, found.value))
        return {"new_tokens": tokens, "new_tokens_per_s": tokens / found.seconds}

    for side, work in (("ours", ours), ("generate", peer)):

        def prepare(work: Any = work) -> Callable[[], Any]:
            work(rows[:2], 2)
            return partial(work, rows, sizes.limit)

        attempt(run, f"answering {side}, {len(rows)} prompts", prepare, new_tokens)


def summary(steps: list[Entry], sizes: Sizes) -> Entry:
    """Scoring and training: all steps of a side together. The goals are shares of the peak."""
    found: Entry = {}
    for kind, goal in (("scoring", 0.5), ("training", 0.45)):
        for side in ("ours", "trainer", "trl"):
            of_side = [one for one in steps if one["step"].startswith(f"{kind} {side},") and "seconds" in one]
            if not of_side:
                continue
            seconds = sum(one["seconds"] for one in of_side)
            done = sum(one["share_of_peak"] * one["seconds"] for one in of_side)
            found[f"{kind}, {side}"] = (
                f"{sum(one['tokens'] for one in of_side) / seconds:.4g} tokens a second, "
                f"{100 * done / seconds:.3g} % of the peak"
                + (f" (goal {100 * goal:g} %)" if side == "ours" else "")
                + f", first loss {of_side[0]['loss']:.4f}"
            )
            if kind == "scoring" and side == "ours":
                whole = seconds / len(of_side) * sizes.candidates
                found["scoring, all candidates"] = f"{whole:.4g} s for {sizes.candidates} x {sizes.rows} rows"
    return found
