"""benchmarks/gpu.py on a processor: what each part says, how it stops, what it counts."""

import argparse
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from laboratory import REPOSITORY
from sapo.artifacts.chosen_prompt import Candidate

BENCHMARKS = REPOSITORY / "benchmarks"
FILES = Path(os.environ.get("SAPO_BENCHMARKS") or REPOSITORY.parent / "shared/benchmarks")
Load = Callable[[str], Any]
Arguments = Callable[..., argparse.Namespace]


def read(folder: Path, part: str) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / f"gpu_{part}.json").read_text())["results"]
    return results


def test_every_part_runs_whole_on_a_processor(command: Callable[..., str], tmp_path: Path) -> None:
    printed = command(BENCHMARKS / "gpu.py", "--tiny", "--device", "cpu", "--out", tmp_path)
    assert "no GPU" in printed
    assert f"torch {torch.__version__}" in printed
    found = {part: read(tmp_path, part) for part in ("agree", "shapes", "sequence")}
    for part, results in found.items():
        assert f"{part}: {results['planned']} of {results['planned']} steps done" in printed
        assert results["done"] == results["planned"] == len(results["steps"])
        assert not results["time_is_up"]
        assert not results["failed"]
    assert found["agree"]["summary"]["largest difference of a loss, nats a token"] == 0
    assert found["agree"]["summary"]["same choices"] == "3 of 3"
    # The same rows and weights: our losses are the peer's, to bfloat16
    steps = {step["step"]: step for step in found["shapes"]["steps"]}
    for kind in ("scoring {}, candidate 0", "training {}, 8 rows"):
        ours, peer = steps[kind.format("ours")], steps[kind.format("trainer")]
        assert ours["loss"] == pytest.approx(peer["loss"], rel=2e-3)
        assert ours["tokens"] == peer["tokens"]
    assert [step["step"].split()[0] for step in found["sequence"]["steps"]] == [
        "evaluate",
        *["select", "train", "evaluate"] * 3,
    ]
    assert found["sequence"]["steps"][-1]["scores"].keys() == found["sequence"]["steps"][0]["scores"].keys()


@pytest.mark.skipif(
    not (FILES / "SUPERNI").is_dir(), reason="the SuperNI files are not beside the repository"
)
def test_the_sequence_takes_rows_from_a_folder(
    load: Load, arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAPO_CACHE", str(tmp_path / "cache"))
    given = arguments("--url", str(FILES), "--sequence", "ni_seq_c1_small", "-S", "selection.rows=2")
    assert load("gpu").run_part("sequence", given)
    results = read(tmp_path / "out", "sequence")
    assert results["done"] == results["planned"] == 13
    assert results["steps"][-1]["step"] == "evaluate task224"
    assert Path.cwd() == REPOSITORY


def test_a_part_stops_when_its_time_is_up(
    load: Load, arguments: Arguments, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load("gpu").run_part("sequence", arguments("--minutes", "0.0001"))
    assert "sequence: time is up after 0.0001 min, 0 of " in capsys.readouterr().out
    assert Path.cwd() == REPOSITORY


def test_time_is_up_where_a_library_makes_an_error_of_it(load: Load) -> None:
    module = load("gpu_run")

    def library() -> None:
        try:
            time.sleep(10)
        except BaseException:
            raise ValueError("cannot read the file") from None

    with pytest.raises(module.TimeIsUp), module.time_limit(0.05):
        library()
    with pytest.raises(ValueError, match="of its own"), module.time_limit(10):
        raise ValueError("of its own")


def test_time_is_up_where_everything_is_caught_and_what_was_done_is_written(
    load: Load, arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("gpu_run")
    run = module.Run("agree", arguments())
    run.plan(load("common").compose([]), 1_000_000, lambda steps: {"steps so far": len(steps)})

    def never_ends() -> None:
        while True:
            with suppress(Exception):  # as a library might
                run.add("step", seconds=0.01)
                time.sleep(0.01)

    with pytest.raises(module.TimeIsUp), module.time_limit(0.3):
        never_ends()
    time.sleep(0.3)  # and no second signal comes
    assert read(tmp_path / "out", "agree")["done"] > 0
    run.time_is_up = True
    run.close()
    results = read(tmp_path / "out", "agree")
    assert results["time_is_up"]
    assert 0 < results["done"] == results["summary"]["steps so far"] < results["planned"] == 1_000_000
    assert f"time is up after 4 min, {results['done']} of 1000000 steps done" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("8 GiB"), TypeError("an argument"), RuntimeError("x")]
)
def test_a_step_that_fails_is_told_and_the_next_one_runs(
    load: Load, arguments: Arguments, tmp_path: Path, error: Exception
) -> None:
    run, attempt = load("gpu_run").Run("shapes", arguments()), load("gpu_shapes").attempt
    run.plan(load("common").compose([]), 2, lambda steps: {})

    def fails() -> Callable[[], Any]:
        raise error

    attempt(run, "one", fails, lambda found: {})
    attempt(run, "two", lambda: lambda: 7, lambda found: {"value": found.value})
    assert run.failed
    one, two = read(tmp_path / "out", "shapes")["steps"]
    assert one["failed"] == f"{type(error).__name__}: {error}"
    assert two["value"] == 7


def test_a_part_that_fails_makes_the_command_fail_but_not_the_next_part(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--tiny", "--out", str(tmp_path), "-S", "prompt.max_tokens=40", "agree", "shapes"]
    monkeypatch.setattr("sys.argv", ["gpu.py", *words])
    with pytest.raises(SystemExit, match=r"failed, wholly or in part: agree$"):
        load("gpu").main()
    assert "error: agree: prompt.max_tokens = 40 leaves no room" in capsys.readouterr().err
    assert read(tmp_path, "shapes")["done"] == 9


@pytest.mark.parametrize(
    ("given", "said"), [(["agre"], "no part is called agre"), (["--device", "cuda"], "finds no GPU")]
)
def test_a_wrong_command_line_is_refused_in_a_line(
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    said: str,
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu.py", *given])
    with pytest.raises(SystemExit) as ended:
        load("gpu").main()
    assert said in f"{ended.value} {capsys.readouterr().err}"


# what is compared


def choice(best: int, *losses: float) -> tuple[int, list[Candidate]]:
    return best, [
        Candidate(instruction="i", original=not n, loss=loss, rows=2, place=None)
        for n, loss in enumerate(losses)
    ]


def test_differences_between_devices_are_told(load: Load) -> None:
    module = load("gpu_agree")
    losses = module.losses_apart(choice(0, 1.0, 2.0, 3.0), choice(1, 1.0, 2.5, 2.9))
    assert losses["largest_difference"] == 0.5
    assert losses["same_choice"] is False
    answers = module.answers_apart([[1, 2], [3], []], [[1, 2], [3, 4], [0]])
    assert (answers["same_answers"], answers["answers"]) == (1, 3)
    said = module.summary([losses, module.losses_apart(choice(0, 1.0), choice(0, 1.0)), answers])
    assert said == {
        "largest difference of a loss, nats a token": 0.5,
        "same choices": "1 of 2",
        "same answers": "1 of 3",
    }


def test_no_step_yet_is_no_agreement(load: Load) -> None:
    said = load("gpu_agree").summary([])
    assert said["largest difference of a loss, nats a token"] is None
    assert said["same choices"] == "0 of 0"


# operations: as torch itself counts them


def matrix_operations(work: Callable[[], Any]) -> int:
    """Of all products but attention's own."""
    with FlopCounterMode(display=False) as counted:
        work()
    products = counted.get_flop_counts()["Global"].items()
    return sum(
        count for operation, count in products if str(operation) in ("aten.mm", "aten.addmm", "aten.bmm")
    )


@pytest.fixture
def shaped(load: Load) -> Any:
    module, base = load("gpu_shapes"), load("common").set_up(["model=tiny_qwen3"])
    return module.Shaped(base.params, base.folder, base.tokenizer, base.encoder, module.SMALL)


def test_operations_of_whole_rows(load: Load, shaped: Any) -> None:
    model, rows = shaped.model(), load("gpu_shapes").token_rows(shaped.sizes, 3, (30, 30), seed=1)
    ids = torch.tensor([row.prompt + row.answer for row in rows])
    assert ids.shape == (3, 30)
    needs = load("gpu_cost").cost(model, rows, 0, every_logit=True)
    assert matrix_operations(lambda: model(input_ids=ids)) == needs.matrices
    # 2 layers, 4 heads of 16, 30 tokens: two products, each of a pair and a head's 16 numbers
    assert needs.attention == 4 * 2 * 4 * 16 * 3 * (30 * 31 / 2)


def test_operations_with_a_shared_beginning_and_answers_logits_alone(load: Load, shaped: Any) -> None:
    model, rows = shaped.model(), load("gpu_shapes").token_rows(shaped.sizes, 3, (30, 30), seed=1)
    shared = shaped.sizes.shared
    needs = load("gpu_cost").cost(model, rows, shared, every_logit=False)
    measured = matrix_operations(load("scoring").ours(shaped, model, [rows], 0))
    head = 2 * model.get_output_embeddings().weight.numel()
    assert measured == needs.matrices + head  # the shared tokens' pass makes one logit that nobody needs
    whole = load("gpu_cost").cost(model, rows, 0, every_logit=False)
    assert whole.matrices > needs.matrices
    assert whole.attention - needs.attention == 4 * 2 * 4 * 16 * 2 * (shared * (shared + 1) / 2)


def test_operations_of_a_training_step_with_frozen_weights(load: Load, shaped: Any) -> None:
    model, rows = shaped.model().float(), load("gpu_shapes").token_rows(shaped.sizes, 2, (30, 30), seed=1)
    model.requires_grad_(False).enable_input_require_grads()  # as a LoRA below makes it, without a LoRA's own
    ids = torch.tensor([row.prompt + row.answer for row in rows])
    measured = matrix_operations(lambda: model(input_ids=ids, labels=ids).loss.backward())
    needs = load("gpu_cost").cost(model, rows, 0, every_logit=True)
    assert measured == 2 * needs.matrices
    assert needs.training == 2 * needs.matrices + 3 * needs.attention
    assert needs.forward == needs.matrices + needs.attention


def test_made_rows_have_the_lengths_and_the_beginning_that_are_asked_for(load: Load, shaped: Any) -> None:
    rows = load("gpu_shapes").token_rows(shaped.sizes, 5, (20, 40), seed=3)
    assert sorted(len(row.prompt) + len(row.answer) for row in rows) == [20, 25, 30, 35, 40]
    assert len({tuple(row.prompt[: shaped.sizes.shared]) for row in rows}) == 1
    assert len({row.prompt[shaped.sizes.shared] for row in rows}) > 1


# the time of a whole sequence


def steps(module: Any) -> list[Any]:
    one = [
        ("evaluate", "base", 10, 100),
        ("select", "a", 4, 8),
        ("train", "a", 20, 400),
        ("evaluate", "a", 10, 100),
    ]
    two = [("select", "b", 4, 8), ("train", "b", 10, 400), ("evaluate", "b", 10, 100)]
    return [module.Step(*step, lambda: None) for step in [*one, *two]]


def ran(**seconds: float) -> list[dict[str, Any]]:
    return [{"step": name.replace("_", " "), "seconds": value} for name, value in seconds.items()]


def test_the_whole_time_is_each_stages_by_its_rows(load: Load) -> None:
    module = load("gpu_sequence")
    run = ran(evaluate_base=1, select_a=2, train_a=3, evaluate_a=4, select_b=5, train_b=6, evaluate_b=7)
    said = module.extrapolated(steps(module), run)
    whole = 1 * 10 + 2 * 2 + 3 * 20 + 4 * 10 + 5 * 2 + 6 * 40 + 7 * 10
    assert said["whole sequence, minutes"] == pytest.approx(whole / 60)
    assert said["seconds run"] == 28
    assert "not reached" not in said["how"]


def test_a_stage_that_was_not_reached_is_taken_at_the_mean_of_its_kind(load: Load) -> None:
    module = load("gpu_sequence")
    said = module.extrapolated(steps(module), ran(evaluate_base=1, select_a=2, train_a=3, evaluate_a=4))
    whole = 1 * 10 + 2 * 2 + 3 * 20 + 4 * 10 + 2 * 2 + 3 / 20 * 400 + (1 + 4) / 2 * 10
    assert said["whole sequence, minutes"] == pytest.approx(whole / 60)
    assert "3 stages not reached" in said["how"]


@pytest.mark.parametrize("seconds", [{}, {"evaluate_base": 1.0}, {"evaluate_base": 1.0, "select_a": 2.0}])
def test_without_a_stage_of_each_kind_no_time_is_told(load: Load, seconds: dict[str, float]) -> None:
    module = load("gpu_sequence")
    said = module.extrapolated(steps(module), ran(**seconds))
    assert said.keys() == {"whole sequence"}
    assert said["whole sequence"].startswith("unknown")
