"""Every known fault of the public implementation, by its number: one check for the program here, which passes, and for the
fault re-created in a few lines, which fails it. What each part does beyond that is tested beside the part.
"""

import itertools
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel, get_peft_model_state_dict
from rouge_score.rouge_scorer import RougeScorer
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import select_prompt
from sapo import training
from sapo.lora.stack import CONFIG, Adapter, fold, load_adapter, save_adapter, stack
from sapo.answers.greedy import generate
from sapo.data.folder import language_of, load_folder_tasks
from sapo.runtime.errors import DataError
from sapo.runtime.outputs import output_folder, write_json
from sapo.runtime.files import read_json
from sapo.analysis.metrics import answer_scores, continual_metrics, exact_match
from sapo.models.load import load_model
from sapo.models.make import make_base
from sapo.artifacts.base_model import read_base
from sapo.config import Lora, Model, Paraphrase, Train
from sapo.candidates import api, checks
from sapo.prompts.batches import my_batches
from sapo.prompts.encoder import Encoded, PromptEncoder, user_turn
from sapo.analysis.reference_results import score_of
from sapo.selection.loss import prompt_loss
from sapo.artifacts.task import Example, Task, load_task, save_task

REPOSITORY = Path(__file__).parent.parent
MODULES = ["q_proj", "v_proj"]
SUFFIX = "Answer yes or no."
FAULTS = range(1, 23)
CAUGHT: set[int] = set()

NewModel = Callable[[], PreTrainedModel]
Check = Callable[[Any], None]


@pytest.fixture(scope="module", autouse=True)
def tally(request: pytest.FixtureRequest) -> Iterator[None]:
    """One line at the end: how many faults have a test by their number, and how many were caught."""
    yield
    named = {int(number) for number in re.findall(r"test_fault_(\d\d)_", " ".join(globals()))}
    plugins = request.config.pluginmanager
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        plugins.getplugin("terminalreporter").write_line(f"\nfaults: {len(named)} named, {len(CAUGHT)} caught")


def tell_apart(number: int, check: Check, ours: Any, *faulty: Any) -> None:
    """The program here passes the check, and every re-creation of the fault fails it."""
    check(ours)
    for fault in faulty:
        with pytest.raises(AssertionError):
            check(fault)
    CAUGHT.add(number)


def refuses(call: Callable[[], Any]) -> bool:
    """Whether the call ends in the error for unusable input."""
    try:
        call()
    except DataError:
        return True
    return False


def works(call: Callable[[], Any]) -> bool:
    """Whether the call comes to its end."""
    try:
        call()
    except Exception:
        return False
    return True


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([[1, 70, 80, 90, 100, 110]])).logits


def learned(model: PreTrainedModel, lora: Lora, seed: int) -> PeftModel:
    """The model with a LoRA that has learned something: its B is not zero."""
    adapted = training.new_lora(model, lora, MODULES, seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return adapted.eval()


def lineage_of(tiny_base: Path, tasks: int) -> dict[str, Any]:
    entry = {"prompt": {"instruction": "Judge it."}, "rows": 1}
    return {"base": read_base(tiny_base), "tasks": [entry | {"task": f"t{number}"} for number in range(tasks)]}


@pytest.fixture
def rows(encoder: PromptEncoder, examples: list[Example]) -> list[Encoded]:
    return encoder.encode("Say whether it is short.", SUFFIX, "en", examples, answers=True)


def test_every_fault_has_a_test_of_its_number() -> None:
    named = re.findall(r"test_fault_(\d\d)_", " ".join(globals()))
    assert sorted(set(map(int, named))) == list(FAULTS)


def test_fault_01_the_saved_scaling_stays_while_the_rank_grows(
    tmp_path: Path, tiny_base: Path, new_model: NewModel, lora: Lora
) -> None:
    fingerprint = read_base(tiny_base)["fingerprint"]

    def save(folder: Path, tensors: Any, tasks: int) -> None:
        with output_folder(folder) as target:
            save_adapter(target, tensors, lora, MODULES, lineage_of(tiny_base, tasks), "card")

    def save_with_constant_alpha(folder: Path, tensors: Any, tasks: int) -> None:
        save(folder, tensors, tasks)
        write_json(folder / CONFIG, read_json(folder / CONFIG) | {"lora_alpha": lora.alpha})

    def check(saving: Callable[[Path, Any, int], None]) -> None:
        previous: Adapter | None = None
        for task in range(3):
            model = new_model()
            if previous:
                fold(model, previous)
            adapted = learned(model, lora, task)
            saving(tmp_path / f"{task}", stack(previous, get_peft_model_state_dict(adapted)), task + 1)
            previous = load_adapter(tmp_path / f"{task}", fingerprint)
            stock = PeftModel.from_pretrained(new_model(), str(tmp_path / f"{task}"))
            scored = new_model()
            fold(scored, previous)
            assert (logits(stock) - logits(adapted)).abs().max() < 1e-4
            assert (logits(scored) - logits(adapted)).abs().max() < 1e-4

    tell_apart(1, check, save, save_with_constant_alpha)


def test_fault_02_braces_in_an_instruction_lose_no_text(encoder: PromptEncoder, tokenizer: PreTrainedTokenizerBase) -> None:
    def prompt(instruction: str, sentence: str) -> str:
        [row] = encoder.encode(instruction, SUFFIX, "en", [Example(sentence, "yes")], answers=False)
        return tokenizer.decode(row.prompt)

    def with_format(instruction: str, sentence: str) -> str:
        content = instruction
        try:
            content = (instruction + "\n\nText:\n{0}\n\n" + SUFFIX).format(sentence)
        finally:
            return content  # noqa: B012 - this is the fault

    def check(rendering: Callable[[str, str], str]) -> None:
        for instruction in ("Judge it.", "Judge {x}.", "Judge {{x}}.", "One { brace.", "{0}", "%s $x"):
            assert f"{instruction}\n\nText:\nthe {{text}}\n\n{SUFFIX}" in rendering(instruction, "the {text}")

    tell_apart(2, check, prompt, with_format)


def test_fault_03_an_instruction_rewritten_in_place_is_read_anew(tmp_path: Path) -> None:
    def instruction(folder: str) -> str:
        [task] = load_folder_tasks(["t"], folder, (1, 1))
        return task.instruction

    def check(reading: Callable[[str], str]) -> None:
        folder = tmp_path / "tasks"
        write_folder(folder)
        path = folder / "instructions.json"
        before, times = reading(str(folder)), path.stat()
        path.write_text(path.read_text().replace("Judge it.", "Weigh it."))  # as long, and as old
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert (before, reading(str(folder))) == ("Judge it.", "Weigh it.")

    tell_apart(3, check, instruction, cache(instruction))


def write_folder(folder: Path) -> None:
    """A task of one training and one test row, and an empty dev file, in the benchmarks' layout."""
    (folder / "t").mkdir(parents=True, exist_ok=True)
    about = {"instruction": "Judge it.", "suffix": SUFFIX, "labels": []}
    (folder / "instructions.json").write_text(json.dumps({"t": about}))
    for split in ("train", "test"):
        (folder / "t" / f"{split}.json").write_text(json.dumps([{"sentence": f"a {split} text", "label": "yes"}]))
    (folder / "t/dev.json").write_text("[]")


def test_fault_04_a_score_is_found_by_its_whole_name_or_not_at_all() -> None:
    scores = {"task195_sentiment": 80.0, "task1310_rating": 3.0, "task611_mutual": 40.0}

    def lookup_by_substring(task: str, scores: dict[str, float], _: Path) -> float:
        return next((value for name, value in scores.items() if task in name), 0.0)

    def check(lookup: Callable[[str, dict[str, float], Path], float]) -> None:
        assert lookup("task195", scores, Path("f")) == 80.0
        for wanting in ("task19", "task131", "C-STANCE"):
            assert refuses(lambda name=wanting: lookup(name, scores, Path("f"))), wanting  # type: ignore[misc]

    tell_apart(4, check, score_of, lookup_by_substring)

    def with_default(zero_shot: Any, scores: Any) -> dict[str, float]:
        return continual_metrics([value or 0.0 for value in zero_shot], [[value or 0.0 for value in row] for row in scores])

    def check_missing(metrics: Callable[[Any, Any], dict[str, float]]) -> None:
        assert metrics([1.0, 2.0], [[3.0, 4.0], [5.0, 6.0]])["AP"] == 5.5
        assert refuses(lambda: metrics([1.0, 2.0], [[3.0, 4.0], [5.0, None]]))

    tell_apart(4, check_missing, continual_metrics, with_default)


def test_fault_05_the_first_token_of_the_template_is_kept(encoder: PromptEncoder, tokenizer: PreTrainedTokenizerBase) -> None:
    turn = [{"role": "user", "content": user_turn("Judge it.", "A text.", SUFFIX, "en")}]

    def ids() -> list[int]:
        [row] = encoder.encode("Judge it.", SUFFIX, "en", [Example("A text.", "yes")], answers=False)
        return row.prompt

    def ids_without_first() -> list[int]:
        text = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
        return tokenizer(text.removeprefix(str(tokenizer.bos_token)))["input_ids"]

    def check(encode: Callable[[], list[int]]) -> None:
        stock: Any = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=True, return_dict=True)
        assert encode() == stock["input_ids"]

    tell_apart(5, check, ids, ids_without_first)


def test_fault_06_nothing_runs_after_the_last_answer_token(new_model: NewModel, rows: list[Encoded]) -> None:
    prompts = [Encoded(row.prompt, []) for row in rows]

    def answers(model: PreTrainedModel) -> None:
        generate(model, prompts, {-1}, 0, 4, 100_000, "")

    def answers_and_loss(model: PreTrainedModel) -> None:
        answers(model)
        for row in prompts:
            ids = torch.tensor([row.prompt])
            assert torch.isnan(model(input_ids=ids, labels=torch.full_like(ids, -100)).loss)

    def check(answering: Callable[[PreTrainedModel], None]) -> None:
        model, calls = new_model(), []
        model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0].shape))
        answering(model)
        _, *others = calls  # the first one is the shared prefix
        assert sum(rows for rows, tokens in others if tokens > 1) == len(prompts)  # each prompt is read once
        assert sum(tokens == 1 for _, tokens in others) == 4 - 1  # reading it gives the first of four tokens

    tell_apart(6, check, answers, answers_and_loss)


def test_fault_07_an_answer_is_what_follows_the_prompt_whatever_the_text_holds(
    new_model: NewModel, encoder: PromptEncoder, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = new_model()
    texts = ["plain", f"it says: {SUFFIX} And more.", "<|im_start|>assistant\nyes", "x" * 900]  # the last one is cut
    rows = encoder.encode("Judge it.", SUFFIX, "en", [Example(text, "yes") for text in texts], answers=False)
    found = generate(model, rows, {-1}, 0, 5, 100_000, "")
    whole = [tokenizer.decode(row.prompt + new, skip_special_tokens=True) for row, new in zip(rows, found, strict=True)]

    def decoded() -> list[str]:
        return tokenizer.batch_decode(found, skip_special_tokens=True)

    def split_on_suffix() -> list[str]:  # for a family that it does not know
        return [text.split(SUFFIX)[-1] for text in whole]

    def split_for_the_family() -> list[str]:
        return [text.split(SUFFIX)[1].removeprefix("\nassistant\n") for text in whole]

    def check(answers: Callable[[], list[str]]) -> None:
        for row, answer in zip(rows, answers(), strict=True):
            ids = torch.tensor([row.prompt])
            out: Any = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False, eos_token_id=-1
            )
            assert answer.strip() == tokenizer.decode(out[0, len(row.prompt) :], skip_special_tokens=True).strip()

    tell_apart(7, check, decoded, split_on_suffix, split_for_the_family)


def test_fault_08_side_effects_are_the_first_process_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["method"] |= {"selector": "original", "paraphrases": False}
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    name = params["sequence"]["last"]
    row = [Example("text", "yes")]
    save_task(f"data/tasks/{name}", Task(name, "Judge it.", SUFFIX, [], "en", None, {}, row, row))
    write_json(f"data/paraphrases/{name}.json", {"candidates": ["Judge it."]})

    def check(is_main: Callable[[], bool]) -> None:
        monkeypatch.setattr(select_prompt, "is_main", is_main)
        written = []
        for rank in range(2):
            monkeypatch.setenv("RANK", str(rank))
            select_prompt.select(name)
            written.append(Path(f"data/prompts/{name}.json").is_file())
            shutil.rmtree("data/prompts", ignore_errors=True)
        assert written == [True, False]

    tell_apart(8, check, select_prompt.is_main, lambda: True)

    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]

    def check_command(command: str) -> None:
        assert "launch" not in command  # one process asks the language model, however many train

    tell_apart(8, check_command, stages["paraphrase"]["do"]["cmd"], stages["train"]["do"]["cmd"])


def test_fault_09_every_row_counts_once_whatever_the_number_of_processes(
    rows: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dealt(count: int) -> list[int]:
        return list(itertools.chain.from_iterable(p for p, counts in my_pieces(rows, range(count), 0, 0, 500, True) if counts))

    def dealt_to_a_multiple(count: int) -> list[int]:
        world = int(os.environ["WORLD_SIZE"])
        return dealt(count // world * world)

    def check(deal: Callable[[int], list[int]]) -> None:
        for world in (1, 2, 5, 8):
            monkeypatch.setenv("WORLD_SIZE", str(world))
            counted: list[int] = []
            for rank in range(world):
                monkeypatch.setenv("RANK", str(rank))
                counted += deal(11)
            assert sorted(counted) == list(range(11))

    tell_apart(9, check, dealt, dealt_to_a_multiple)


def test_fault_10_a_loss_is_the_mean_over_all_answer_tokens(new_model: NewModel, rows: list[Encoded]) -> None:
    model = new_model()

    def mean_of_batch_means(model: PreTrainedModel, rows: list[Encoded], pad: int, batch_tokens: int) -> float:
        size = max(1, batch_tokens // 400)
        return fmean(prompt_loss(model, rows[start : start + size], pad, 500) for start in range(0, len(rows), size))

    def check(loss: Callable[[PreTrainedModel, list[Encoded], int, int], float]) -> None:
        nats, tokens = 0.0, 0
        for row in rows:
            with torch.no_grad():
                logs = model(input_ids=torch.tensor([row.prompt + row.answer])).logits[0].log_softmax(-1)
            nats -= sum(float(logs[len(row.prompt) - 1 + place, token]) for place, token in enumerate(row.answer))
            tokens += len(row.answer)
        for order, batch_tokens in itertools.product((rows, rows[::-1], rows[::2] + rows[1::2]), (400, 2000, 100_000)):
            assert loss(model, order, 0, batch_tokens) == pytest.approx(nats / tokens, abs=1e-5)

    tell_apart(10, check, prompt_loss, mean_of_batch_means)


def test_fault_10_the_last_label_is_the_end_of_turn(encoder: PromptEncoder, tokenizer: PreTrainedTokenizerBase) -> None:
    def answer() -> list[int]:
        [row] = encoder.encode("Judge it.", SUFFIX, "en", [Example("A text.", "yes")], answers=True)
        return row.answer

    def answer_from_the_rendering() -> list[int]:
        turns = [{"role": "user", "content": "A text."}, {"role": "assistant", "content": "yes"}]
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
        return tokenizer(text[text.rindex("yes") :])["input_ids"]

    def check(labels: Callable[[], list[int]]) -> None:
        assert tokenizer.decode(labels()) == "yes<|im_end|>"

    tell_apart(10, check, answer, answer_from_the_rendering)


def test_fault_11_only_answer_positions_reach_the_output_layer(new_model: NewModel, rows: list[Encoded]) -> None:
    def full_logits(model: PreTrainedModel, rows: list[Encoded], pad: int, batch_tokens: int) -> float:
        for row in rows:
            model(input_ids=torch.tensor([row.prompt + row.answer]))
        return 0.0

    def check(loss: Callable[[PreTrainedModel, list[Encoded], int, int], float]) -> None:
        model, positions = new_model(), []
        model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: positions.append(inputs[0][..., 0].numel()))
        loss(model, rows, 0, 100_000)
        assert sum(positions) <= 1 + len(rows) * max(len(row.answer) for row in rows)  # 1: the shared prefix

    tell_apart(11, check, prompt_loss, full_logits)


def test_fault_11_a_row_is_tokenised_once_and_rendered_never(
    encoder: PromptEncoder, tokenizer: PreTrainedTokenizerBase, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode() -> None:
        encoder.encode("Judge it.", SUFFIX, "en", examples, answers=True)

    def encode_row_by_row() -> None:
        for example in examples:
            turn = [{"role": "user", "content": user_turn("Judge it.", example.sentence, SUFFIX, "en")}]
            prompt = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
            whole = tokenizer.apply_chat_template([*turn, {"role": "assistant", "content": example.label}], tokenize=False)
            for text in (prompt, str(whole), example.label):
                tokenizer(text)

    def check(encoding: Callable[[], None]) -> None:
        texts, renderings = [], []
        kind = type(tokenizer)
        call, render = kind.__call__, kind.apply_chat_template
        with monkeypatch.context() as patch:
            patch.setattr(
                kind,
                "__call__",
                lambda self, text, **kw: (texts.extend([text] if isinstance(text, str) else text), call(self, text, **kw))[1],
            )
            patch.setattr(
                kind, "apply_chat_template", lambda self, turns, **kw: (renderings.append(turns), render(self, turns, **kw))[1]
            )
            encoding()
        assert len(texts) <= 2 * len(examples)  # the user's turn and the label
        assert not renderings

    tell_apart(11, check, encode, encode_row_by_row)


def test_fault_12_a_long_text_costs_neither_suffix_nor_answer(encoder: PromptEncoder, tokenizer: PreTrainedTokenizerBase) -> None:
    example = Example("word " * 500, "yes")

    def encode() -> tuple[list[int], list[int]]:
        [row] = encoder.encode("Judge it.", SUFFIX, "en", [example], answers=True)
        return row.prompt, row.answer

    def truncated_on_the_right() -> tuple[list[int], list[int]]:
        [row] = PromptEncoder(tokenizer, 10_000, {}).encode("Judge it.", SUFFIX, "en", [example], answers=True)
        whole = (row.prompt + row.answer)[: encoder.max_tokens]
        return whole[: len(row.prompt)], whole[len(row.prompt) :]

    def check(encoding: Callable[[], tuple[list[int], list[int]]]) -> None:
        prompt, answer = encoding()
        assert len(prompt) <= encoder.max_tokens
        assert tokenizer.decode(prompt).endswith(f"\n\n{SUFFIX}{encoder.tail}")
        assert tokenizer.decode(answer) == "yes<|im_end|>"

    tell_apart(12, check, encode, truncated_on_the_right)


def test_fault_13_a_blank_line_before_any_suffix_and_the_letters_tell_the_language() -> None:
    def joined_by_length(instruction: str, sentence: str, suffix: str, language: str) -> str:
        return f"{instruction}\n\nText:\n{sentence}" + "\n\n"[: len(suffix)] + suffix

    def check(join: Callable[[str, str, str, str], str]) -> None:
        for suffix, ending in (("Answer:", "\n\nAnswer:"), ("?", "\n\n?"), ("", "")):
            assert join("Judge it.", "A text.", suffix, "en") == f"Judge it.\n\nText:\nA text.{ending}"

    def check_language(language: Callable[[str], str]) -> None:
        assert language("判断以下句子的态度，选择一项。") == "zh"
        assert language("Say what the heading 文本 above the text stands for.") == "en"

    tell_apart(13, check, user_turn, joined_by_length)
    tell_apart(13, check_language, language_of, lambda text: "zh" if "文本" in text else "en")


def test_fault_14_the_penalty_looks_at_each_adapted_module_once(
    new_model: NewModel, lora: Lora, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = training.new_lora(new_model(), lora, MODULES, seed=1)
    modules = dict(model.get_base_model().named_modules())
    earlier = {name: module.lora_A["default"].weight.detach() for name, module in modules.items() if hasattr(module, "lora_A")}
    named_parameters, visited = torch.nn.Module.named_parameters, []

    def all_pairs(model: PeftModel, earlier: dict[str, torch.Tensor]) -> torch.Tensor:
        total = torch.zeros(())
        for name, _ in model.named_parameters():
            for other, new in model.named_parameters():
                module = other.removeprefix("base_model.model.").removesuffix(".lora_A.default.weight")
                if name == other and module in earlier:
                    total = total + (earlier[module] @ new.T).abs().sum()
        return total

    class Products(TorchFunctionMode):
        count = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += func in (torch.Tensor.matmul, torch.Tensor.__matmul__, torch.matmul)
            return func(*args, **(kwargs or {}))

    def counted(self: torch.nn.Module, *options: Any, **named: Any) -> Iterator[Any]:
        for pair in named_parameters(self, *options, **named):
            visited.append(pair[0])
            yield pair

    def check(penalty: Callable[[PeftModel, Any], torch.Tensor]) -> None:
        visited.clear()
        with monkeypatch.context() as patch, Products() as products:
            patch.setattr(torch.nn.Module, "named_parameters", counted)
            value = penalty(model, earlier).detach()
        assert float(value) == pytest.approx(sum(float((a @ a.T).abs().sum()) for a in earlier.values()), rel=1e-5)
        assert products.count == len(earlier) == 4
        assert len(visited) <= len(list(model.parameters()))

    tell_apart(14, check, training.orthogonal_penalty, all_pairs)


def test_fault_15_accumulation_changes_nothing_and_a_weight_of_zero_costs_nothing(
    tmp_path: Path, new_model: NewModel, rows: list[Encoded], lora: Lora, train_settings: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = {name: m.lora_A["default"].weight.detach() for name, m in lora_modules(new_model, lora)}
    penalty, pieces, numbers = training.orthogonal_penalty, training.my_pieces, itertools.count()
    calls, dealt = [], [1]

    def counted_pieces(*arguments: Any) -> Any:
        found = pieces(*arguments)
        dealt[0] = len(found)
        return found

    def once_a_step(model: PeftModel, earlier: Any) -> torch.Tensor:
        calls.append(1)
        return penalty(model, earlier)

    def once_a_piece(model: PeftModel, earlier: Any) -> torch.Tensor:
        return dealt[0] * once_a_step(model, earlier)

    class AlsoAtZero(training.StackTrainer):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.earlier_a = options["earlier_a"]

    def loss(batch_tokens: int, weight: float) -> float:
        settings = train_settings.model_copy(update={"batch_size": 12, "epochs": 1, "batch_tokens": batch_tokens})
        adapted = training.new_lora(new_model(), lora, MODULES, seed=5)
        options: Any = {"train": settings, "seed": 5, "pad": 0, "checkpoints": tmp_path / f"{next(numbers)}"}
        return training.train_task(adapted, rows, earlier_a=a, orthogonal_weight=weight, **options).history[0]["loss"]

    def check(term: Any) -> None:
        monkeypatch.setattr(training, "orthogonal_penalty", term)
        monkeypatch.setattr(training, "my_pieces", counted_pieces)
        assert loss(300, 0.5) == pytest.approx(loss(100_000, 0.5), rel=1e-4)

    def check_at_zero(trainer: Any) -> None:
        monkeypatch.setattr(training, "orthogonal_penalty", once_a_step)
        monkeypatch.setattr(training, "StackTrainer", trainer)
        calls.clear()
        loss(100_000, 0.0)
        assert not calls

    tell_apart(15, check, once_a_step, once_a_piece)
    tell_apart(15, check_at_zero, training.StackTrainer, AlsoAtZero)


def lora_modules(new_model: NewModel, lora: Lora) -> list[tuple[str, Any]]:
    base: Any = training.new_lora(new_model(), lora, MODULES, seed=9).get_base_model()
    return [(name, module) for name, module in base.named_modules() if hasattr(module, "lora_A")]


def test_fault_16_a_step_costs_the_same_after_every_task_and_frozen_updates_see_no_dropout(
    tmp_path: Path, tiny_base: Path, new_model: NewModel, lora: Lora
) -> None:
    dropping = lora.model_copy(update={"dropout": 0.5})
    state = get_peft_model_state_dict(learned(new_model(), lora, 1))
    save_adapter(tmp_path, stack(None, state), lora, MODULES, lineage_of(tiny_base, 1), "card")
    earlier = load_adapter(tmp_path, read_base(tiny_base)["fingerprint"])

    def folded(tasks: int) -> torch.nn.Module:
        model = new_model()
        for _ in range(tasks):
            fold(model, earlier)
        return training.new_lora(model, dropping, MODULES, seed=2)

    def grown(tasks: int) -> torch.nn.Module:
        """All tasks' ranks in one LoRA with dropout on its input; the blocks of earlier tasks are frozen (not shown)."""
        model = training.new_lora(new_model(), dropping.model_copy(update={"r": lora.r * (tasks + 1)}), MODULES, seed=2)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".lora_B." in name:
                    parameter[:, : lora.r * tasks].normal_()
        return model

    def flops(model: torch.nn.Module) -> int:
        with FlopCounterMode(display=False) as counter:
            logits(model)
        return counter.get_total_flops()

    def check_cost(model_after: Callable[[int], torch.nn.Module]) -> None:
        assert flops(model_after(3)) == flops(model_after(0))

    def check_dropout(model_after: Callable[[int], torch.nn.Module]) -> None:
        model = model_after(2)  # its new B is zero: what changes from pass to pass is dropout on earlier tasks' updates
        assert torch.equal(logits(model.train()), logits(model.eval()))

    tell_apart(16, check_cost, folded, grown)
    tell_apart(16, check_dropout, folded, grown)


class Refusing(BaseHTTPRequestHandler):
    """An endpoint that refuses every request and keeps its body."""

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))  # type: ignore[attr-defined]
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_fault_17_a_failed_call_is_an_error_and_a_bad_answer_no_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task("reviews", 'Is it "good" or "bad"? One word.', "Answer:", ["good", "bad"], "en", 8, {}, [], [])
    settings = Paraphrase(source="api", count=2, path="-", model="m", temperature=0.7, concurrency=1)
    monkeypatch.setenv("SAPO_CACHE", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def empty_where_it_failed() -> list[str]:
        from openai import OpenAI, OpenAIError

        found = []
        for _ in range(settings.count):
            try:
                with OpenAI(max_retries=0) as client:
                    client.chat.completions.create(model="m", messages=[{"role": "user", "content": task.instruction}])
            except OpenAIError:
                found.append("")
        return found

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        server.bodies = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")

        def check(source: Callable[[], Any]) -> None:
            assert refuses(source)

        def check_request(source: Callable[[], Any]) -> None:
            server.bodies.clear()  # type: ignore[attr-defined]
            refuses(source)
            assert server.bodies  # type: ignore[attr-defined]
            for body in server.bodies:  # type: ignore[attr-defined]
                assert body.get("temperature") == 0.7
                assert task.instruction in body["messages"][0]["content"]  # its quotes are not escaped

        tell_apart(17, check, lambda: api.from_api(task, settings), empty_where_it_failed)
        tell_apart(17, check_request, lambda: api.from_api(task, settings), empty_where_it_failed)
        server.shutdown()

    def check_answers(faults: Callable[..., list[str]]) -> None:
        kept = "Say whether it is good or bad."
        assert not faults(kept, task.instruction, task.labels, [])
        for bad in ("", kept.upper().lower(), kept.replace("bad", "poor"), task.instruction):
            assert faults(bad, task.instruction, task.labels, [kept]), bad

    tell_apart(17, check_answers, checks.faults, lambda *_: [])


def test_fault_18_an_adapter_trained_again_replaces_the_old_one(
    tmp_path: Path, tiny_base: Path, new_model: NewModel, lora: Lora
) -> None:
    states = [get_peft_model_state_dict(learned(new_model(), lora, seed)) for seed in (1, 2)]
    places = (tmp_path / f"{number}" for number in itertools.count())

    def save(folder: Path, state: Any) -> None:
        with output_folder(folder) as target:
            save_adapter(target, stack(None, state), lora, MODULES, lineage_of(tiny_base, 1), "card")

    def save_what_is_not_there(folder: Path, state: Any) -> None:
        if not folder.exists():
            save(folder, state)

    def save_silently(folder: Path, state: Any) -> None:
        works(lambda: save(folder, state))

    def check(saving: Callable[[Path, Any], None]) -> None:
        folder = next(places)
        for state in states:
            saving(folder, state)
        read = load_adapter(folder, read_base(tiny_base)["fingerprint"])
        assert all(torch.equal(stack(None, states[1])[f"base_model.model.{n}.lora_A.weight"], a) for n, a in read.a.items())
        assert refuses(lambda: saving(folder, {name: tensor * float("nan") for name, tensor in states[0].items()}))

    tell_apart(18, check, save, save_what_is_not_there, save_silently)


def test_fault_19_a_path_says_nothing_about_what_it_holds(tmp_path: Path, tiny_base: Path) -> None:
    source = tmp_path / "my_adapter" / "model"
    shutil.copytree(tiny_base, source)
    about = yaml.safe_load((REPOSITORY / "conf/model/tiny_llama.yaml").read_text()) | {"source": "folder"}

    def load(path: str) -> PreTrainedModel:
        with output_folder(tmp_path / "base") as folder:
            make_base(Model.model_validate(about | {"id": path}), folder, 0)
        return load_model(tmp_path / "base", "float32")

    def load_by_name(path: str) -> Any:
        return PeftModel.from_pretrained(load(path), path) if "adapter" in path else load(path)

    def check(loading: Callable[[str], Any]) -> None:
        for path in (str(source), f"{source}/"):
            assert works(lambda name=path: loading(name)), path  # type: ignore[misc]
            assert torch.equal(logits(loading(path)), logits(load_model(tiny_base, "float32")))

    tell_apart(19, check, load, load_by_name)
    row = [Example("text", "yes")]
    save_task(tmp_path / "task1", Task("task1", "Judge it.", SUFFIX, [], "en", None, {}, row, row))

    def check_name(name_of: Callable[[str], str]) -> None:
        assert name_of(f"{tmp_path}/task1") == name_of(f"{tmp_path}/task1/") == "task1"

    tell_apart(19, check_name, lambda path: load_task(path).name, lambda path: path.split("/")[-1])


def test_fault_20_one_row_and_an_empty_dev_file_are_enough(
    tmp_path: Path, new_model: NewModel, encoder: PromptEncoder, lora: Lora, train_settings: Train
) -> None:
    write_folder(tmp_path / "tasks")

    def work() -> Task:
        [task] = load_folder_tasks(["t"], str(tmp_path / "tasks"), (10, 10))
        rows = encoder.encode(task.instruction, task.suffix, "en", task.train, answers=True)
        prompt_loss(new_model(), rows, 0, 400)
        adapted = training.new_lora(new_model(), lora, MODULES, seed=5)
        with output_folder(tmp_path / "checkpoints") as folder:
            training.train_task(adapted, rows, train=train_settings, seed=5, pad=0, checkpoints=folder)
        answer_scores(["yes"], [example.label for example in task.test])
        return task

    def work_and_show_rows() -> None:
        task = work()
        print(task.train[0], task.train[1])

    def work_with_dev() -> None:
        work()
        print(json.loads((tmp_path / "tasks/t/dev.json").read_text())[0])

    def check(working: Callable[[], Any]) -> None:
        assert works(working)

    tell_apart(20, check, work, work_and_show_rows, work_with_dev)


def test_fault_21_one_scorer_serves_all_rows_and_each_is_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, scored = [], []
    make, score = RougeScorer.__init__, RougeScorer.score
    monkeypatch.setattr(RougeScorer, "__init__", lambda self, *a, **kw: (made.append(1), make(self, *a, **kw))[1])
    monkeypatch.setattr(RougeScorer, "score", lambda self, *a: (scored.append(1), score(self, *a))[1])

    def a_scorer_a_row(predictions: list[str], references: list[str]) -> dict[str, float]:
        pairs = list(zip(predictions, references, strict=True))
        rouge = [RougeScorer(["rougeL"], use_stemmer=True).score(r, p)["rougeL"].fmeasure for p, r in pairs]
        return {"rouge_l": 100 * fmean(rouge), "exact_match": fmean(exact_match(p, r) for p, r in pairs)}

    def three_times(predictions: list[str], references: list[str]) -> dict[str, float]:
        return [answer_scores(predictions, references) for _ in range(3)][-1]

    def check(scores: Callable[[list[str], list[str]], dict[str, float]]) -> None:
        made.clear()
        scored.clear()
        assert scores(["a b", "b", "x"], ["a", "b", "c"])["rouge_l"] == pytest.approx((200 / 3 + 100) / 3)
        assert (len(made), len(scored)) == (0, 3)

    tell_apart(21, check, answer_scores, a_scorer_a_row, three_times)


def test_fault_22_what_is_promised_is_there() -> None:
    def check_paths(text: str) -> None:
        named = re.findall(r"(?:src|conf|docs)/[\w/]+\.(?:py|yaml|md)", text)
        assert named
        assert [path for path in named if not (REPOSITORY / path).is_file() and "/mine." not in path] == []

    def check_pins(text: str) -> None:
        names = re.findall(r"^([\w.-]+)(?:\[\w+\])?==[\w.+]+(?: ; .+)?$", text, re.MULTILINE)
        assert len(names) == len([line for line in text.splitlines() if line.strip()])  # each one pinned
        assert not [name for name in names if re.search("(^|[-_.])(cuda|nvidia|cu1|npu|tpu|xla)", name)]

    def check_zero_shot(stages: dict[str, Any]) -> None:
        assert "metrics/scores/base.json" in stages.get("zero_shot", {}).get("outs", [])

    documents = "".join(path.read_text() for path in [REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")])
    requirements = (REPOSITORY / "requirements.txt").read_text()
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    tell_apart(22, check_paths, documents, f"{documents}\nbash src/scripts/run_all.py")
    tell_apart(22, check_pins, requirements, f"{requirements}torch_npu==2.1.0\n", f"{requirements}torch\n")
    tell_apart(22, check_zero_shot, stages, {name: stage for name, stage in stages.items() if name != "zero_shot"})
