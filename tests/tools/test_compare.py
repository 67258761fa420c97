"""compare.py on runs made by hand in a Git repository: a commit each, row scores in the workspace's files."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import compare
from broken import DROP, edited
from canaries import MARKUP
from sapo.analysis import comparison_tables
from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.comparison import Run, difference, grouped, read_run, telling
from sapo.analysis.comparison_page import write_comparison
from sapo.analysis.continual import NAMES, continual_metrics
from sapo.analysis.intervals import Table, holm, row_intervals
from sapo.artifacts.results import RunResults
from sapo.artifacts.scores import Kind, RowScores, write_scores
from sapo.artifacts.summary import Metrics, Summary, metric_fields
from sapo.runtime.errors import ArtifactError, DataError

ORDER = ["one", "two"]


def table(seed: int, gain: float, rows: int = 30) -> Table:
    """Two tasks after three stages; the last model is `gain` points better than another method's."""
    random = np.random.default_rng(7)
    own = np.random.default_rng(seed)
    base = {
        task: random.uniform(20, 60, (1, len(METRICS), rows)) + random.normal(0, 3, (3, len(METRICS), rows))
        for task in ORDER
    }
    better = np.array([0, 0, gain])[:, None, None]
    return {
        task: scores + better + own.normal(0, 1, (3, len(METRICS), 1)) * (seed > 0)
        for task, scores in base.items()
    }


def made(method: str, seed: int, gain: float = 0.0, rows: bool = True, **settings: Any) -> Run:
    scores = table(seed, gain)
    metrics: dict[str, dict[str, float]] = {}
    for number, metric in enumerate(METRICS):
        zero, *matrix = np.stack([of[:, number].mean(-1) for of in scores.values()], axis=1).tolist()
        metrics[metric] = continual_metrics(zero, matrix)
    fields = metric_fields(metrics, row_intervals(scores)[1])
    summary = Summary(
        method=method,
        model="tiny",
        seed=seed,
        sequence="s",
        original_prompt=Metrics(**fields),
        test_rows=dict.fromkeys(ORDER, 30),
        test_fingerprint="t",
        base_fingerprint="b",
        dtype="float32",
        device="cpu",
        versions={"torch": "2"},
        **fields,
    )
    found = {"method.name": method, "train.learning_rate": 0.1} | settings
    return Run(
        f"{method}-{seed}", summary, found, {"chosen": scores, "original": scores} if rows else None, ORDER
    )


def changed(run: Run, **fields: Any) -> Run:
    """The run with other fields in its summary."""
    return replace(run, summary=Summary.model_validate(run.summary.content() | fields))


def alone(run: Run) -> Run:
    """The run as if its first task were all that was trained and tested."""
    assert run.rows
    rows: dict[Kind, Table] = {kind: {"one": table["one"][:2]} for kind, table in run.rows.items()}
    return replace(run, rows=rows, order=["one"])


def with_probes(run: Run) -> Run:
    """The run with a third task that is never trained."""
    assert run.rows
    rows: dict[Kind, Table] = {
        kind: {**table, "probe": table["two"] * 0.5} for kind, table in run.rows.items()
    }
    return replace(run, rows=rows, settings=run.settings | {"sequence.probes": ["probe"]})


def test_one_seed_has_the_interval_over_test_rows_and_says_so() -> None:
    groups = grouped([made("lora_inc", 1), made("olora", 1, gain=5)])
    text = "\n".join(comparison_tables.means(groups, "rouge_l", "chosen"))
    assert "nothing can be concluded" in text
    low, high = row_intervals(table(1, 0))[1]["rouge_l"]["AP"]
    assert f"[{low:+.1f}, {high:+.1f}]" in text
    text = "\n".join(comparison_tables.differences(comparison_tables.every(groups), "rouge_l", "chosen"))
    assert "fewer than two seeds" in text
    assert "olora - lora_inc" in text
    assert "paired" not in text


def test_an_interval_without_width_is_said_to_be_no_certainty() -> None:
    run = made("lora_inc", 1)
    for of in (run.rows or {}).values():
        of |= {task: np.zeros_like(scores) for task, scores in of.items()}
    run = changed(run, rouge_l=dict.fromkeys(NAMES, 0.0))
    assert "which is not certainty" in "\n".join(comparison_tables.means(grouped([run]), "rouge_l", "chosen"))
    assert "certainty" not in "\n".join(
        comparison_tables.means(grouped([made("lora_inc", 1)]), "rouge_l", "chosen")
    )


def test_several_seeds_have_t_intervals_and_paired_tests() -> None:
    runs = [
        made(method, seed, gain) for method, gain in (("lora_inc", 0), ("olora", 5)) for seed in (1, 2, 3)
    ]
    groups = grouped(runs)
    assert [(group.label, sorted(group.runs)) for group in groups] == [
        ("lora_inc", [1, 2, 3]),
        ("olora", [1, 2, 3]),
    ]
    values = [run.value("AP", "rouge_l", "chosen") for run in runs[:3]]
    mean = groups[0].over_seeds("AP", "rouge_l", "chosen")
    assert mean.value == pytest.approx(np.mean(values))
    assert mean.high - mean.value == pytest.approx(4.3027 * np.std(values, ddof=1) / 3**0.5, rel=1e-3)
    tests, notes = difference(groups[1], groups[0], ["AP", "BWT"], "rouge_l", "chosen")
    assert list(tests) == ["test rows", "3 seeds, paired"]
    assert tests["test rows"]["AP"].value == pytest.approx(5)
    assert not notes
    assert "too few" in "\n".join(comparison_tables.means(groups, "rouge_l", "chosen"))


def test_other_seeds_are_compared_by_welchs_test_and_lost_rows_are_said_to_be_lost() -> None:
    groups = grouped([made("lora_inc", 1), made("lora_inc", 2), made("olora", 3, 5), made("olora", 4, 5)])
    tests, _ = difference(groups[1], groups[0], ["AP"], "rouge_l", "chosen")
    assert list(tests) == ["2 and 2 seeds"]
    groups = grouped([made("lora_inc", 1, rows=False), made("olora", 1, 5)])
    tests, notes = difference(groups[1], groups[0], ["AP"], "rouge_l", "chosen")
    assert not tests
    assert "row scores are missing" in notes[0]
    assert "no interval" in "\n".join(comparison_tables.means(groups, "rouge_l", "chosen"))


def test_runs_are_told_apart_by_what_differs_and_the_same_run_counts_once() -> None:
    runs = [made("lora_inc", 1), made("lora_inc", 1), made("lora_inc", 2, **{"train.learning_rate": 0.2})]
    assert [group.label for group in grouped(runs)] == [
        "lora_inc train.learning_rate=0.1",
        "lora_inc train.learning_rate=0.2",
    ]
    big = {"model.name": "big", "model.id": "maker/big"}
    runs = [
        made("lora_inc", 1, **{"model.name": "small", "model.id": "maker/small"}),
        made("olora", 1, **big),
    ]
    assert [group.label for group in grouped(runs)] == ["lora_inc model.name=small", "olora model.name=big"]
    assert "different" not in "\n".join(comparison_tables.means(grouped(runs), "rouge_l", "chosen"))
    runs[0] = changed(runs[0], versions={"torch": "1"})
    assert "different library versions or devices" in "\n".join(
        comparison_tables.means(grouped(runs), "rouge_l", "chosen")
    )
    with pytest.raises(DataError, match="both lora_inc with seed 1, but differ"):
        grouped([made("lora_inc", 1), made("lora_inc", 1, gain=1)])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("paraphrase.path", True),
        ("model.adapter", True),
        ("sequence.path", False),
        ("model.path", False),
        ("tracking.report_to", False),
    ],
)
def test_a_file_of_paraphrases_tells_runs_apart_and_the_place_of_the_data_does_not(
    name: str, told: bool
) -> None:
    section, _, field = name.partition(".")
    values = ["/one.yaml", "/other.yaml"]
    runs = [
        made("lora_inc", seed, **telling({section: {field: value}, "study": {"pairs": seed}}))
        for seed, value in enumerate(values, 1)
    ]
    labels = [group.label for group in grouped(runs)]
    assert labels == ([f"lora_inc {name}={value}" for value in values] if told else ["lora_inc"])


def test_with_one_base_model_a_difference_has_no_column_for_what_follows_from_another() -> None:
    runs = [with_probes(made(method, 1)) for method in ("lora_inc", "olora")]
    other = changed(runs[1], base_fingerprint="c")
    for pair, columns in (
        (runs, ["AP", "BWT", "FWT", "forgetting", "unseen"]),
        ([runs[0], other], ["AP", "BWT", "FWT", "forgetting", "unseen", "unseen change"]),
    ):
        groups = grouped(pair)
        pairs = comparison_tables.every(groups)
        text = comparison_tables.markdown(groups, pairs, "rouge_l", "chosen")
        head = next(line for line in text if line.startswith("| difference"))
        assert head.strip("| ").split(" | ")[2:] == columns
        shown = comparison_tables.differences(pairs, "rouge_l", "chosen")
        assert ("unseen_change" in "\n".join(shown)) == ("unseen change" in columns)


def test_log_likelihoods_of_several_base_models_are_said_not_to_be_comparable() -> None:
    runs = [made("lora_inc", 1), made("olora", 1)]
    for pair, metric, said in (
        (runs, "log_likelihood", False),
        ([runs[0], changed(runs[1], base_fingerprint="c")], "log_likelihood", True),
        ([runs[0], changed(runs[1], base_fingerprint="c")], "rouge_l", False),
    ):
        groups = grouped(pair)
        for text in (
            comparison_tables.means(groups, metric, "chosen"),
            comparison_tables.markdown(groups, [], metric, "chosen"),
        ):
            assert ("not comparable where their tokenizers differ" in "\n".join(text)) == said


def test_one_task_has_no_columns_for_what_is_zero_by_definition() -> None:
    runs = [alone(made("lora_inc", 1)), alone(made("olora", 1, gain=1))]
    groups = grouped(runs)
    assert comparison_tables.names_of(groups) == ["AP"]
    text = "\n".join(comparison_tables.means(groups, "rouge_l", "chosen"))
    assert "BWT" not in text
    assert "which is not certainty" not in text
    lines = comparison_tables.differences(comparison_tables.every(groups), "rouge_l", "chosen")
    assert lines[-1] == "Holm: corrected for the 1 tests of this table."
    p, corrected = lines[1].split()[-2:]
    assert p == corrected


@pytest.mark.parametrize(
    ("label", "cell"),
    [("a", "`a`"), ("a=1 | 2", r"`a=1 \| 2`"), ("a `b`", "`` a `b` ``"), ("``|", r"``` ``\| ```")],
)
def test_a_label_is_code_in_a_markdown_table_whatever_is_in_it(label: str, cell: str) -> None:
    groups = [replace(group, label=label) for group in grouped([made("lora_inc", 1)])]
    table = comparison_tables.markdown(groups, [(groups[0], groups[0])], "rouge_l", "chosen")
    assert table[2].startswith(f"| {cell} | 1 (test rows) |")
    assert table[6].startswith(f"| {cell} - {cell} | test rows |")


def test_one_model_name_with_two_base_models_is_two_groups() -> None:
    other = changed(made("lora_inc", 2), base_fingerprint="c" * 64)
    runs = [made("lora_inc", 1), other]
    assert [group.label for group in grouped(runs)] == ["lora_inc base=b", f"lora_inc base={'c' * 12}"]
    named = [
        replace(run, settings=run.settings | {"model.name": run.summary.base_fingerprint[0]}) for run in runs
    ]
    assert [group.label for group in grouped(named)] == ["lora_inc model.name=b", "lora_inc model.name=c"]


def test_a_setting_in_a_label_is_one_short_line_and_stays_apart_from_others() -> None:
    texts = ["a | b\nline two \x1b[31m `x`", "a | b; line two \\x1b[31m `x`", "y" * 200, "y" * 201, "plain"]
    runs = [made("fixed", 1, **{"method.texts.t": text}) for text in texts]
    labels = [group.label for group in grouped(runs)]
    assert len(set(labels)) == len(texts)
    assert all(label.isprintable() and len(label) < 90 for label in labels)
    assert labels[-1] == "fixed method.texts.t=plain"
    assert labels[0].startswith(r"fixed method.texts.t=a | b; line two \x1b[31m `x`...")


def test_every_number_has_the_unit_and_the_decimals_of_its_metric() -> None:
    groups = grouped([made("lora_inc", 1), made("olora", 1, gain=5)])
    for metric, header, number in (
        ("exact_match", "exact match (%), original prompt, mean", r"[+-]\d+\.\d"),
        ("log_likelihood", "log-likelihood (nats a token), original prompt, mean", r"[+-]\d+\.\d{3}"),
    ):
        head, _, *lines = comparison_tables.means(groups, metric, "original")
        assert head.startswith(header)
        lines += comparison_tables.differences(comparison_tables.every(groups), metric, "original")[1:]
        shown = [found for line in lines for found in re.findall(r"(\S+) \[(\S+), (\S+)\]", line)]
        assert len(shown) == 12
        assert all(re.fullmatch(number, value) for values in shown for value in values)


@pytest.mark.parametrize("field", ["sequence", "test_fingerprint"])
def test_runs_that_were_tested_on_other_rows_are_refused(field: str) -> None:
    runs = [made("lora_inc", 1), changed(made("olora", 1), **{field: "another"})]
    with pytest.raises(DataError, match=f"lora_inc-1 and olora-1 cannot be compared: their {field} is"):
        grouped(runs)


@pytest.mark.parametrize("field", ["sequence", "test_fingerprint"])
def test_a_summary_that_does_not_say_what_was_tested_is_refused(field: str) -> None:
    content = made("olora", 1).summary.content()
    del content[field]
    with pytest.raises(ArtifactError, match=f"^olora-1: metrics/details.json: {field}: Field required$"):
        Summary.parse(json.dumps(content), "olora-1: metrics/details.json")


@pytest.mark.parametrize("bad", [None, float("nan"), "50", True])
def test_fault_04_a_metric_that_is_no_number_is_named(bad: Any) -> None:
    content = made("lora_inc", 1).summary.content()
    content["rouge_l"]["AP"] = bad
    what = "NaN is not a finite number" if bad != bad else r"rouge_l.*\.AP: Input should be a valid number"
    with pytest.raises(ArtifactError, match=rf"^lora_inc-1: metrics/details\.json.*{what}"):
        Summary.parse(json.dumps(content), "lora_inc-1: metrics/details.json")


def test_fault_04_a_metric_that_is_missing_is_named() -> None:
    run = changed(made("lora_inc", 1), rouge_l={"BWT": 1.0})
    assert run.value("BWT", "rouge_l", "chosen") == 1
    with pytest.raises(
        DataError, match=r"lora_inc-1: metrics/details\.json has no AP of rouge_l under the chosen"
    ):
        run.value("AP", "rouge_l", "chosen")
    with pytest.raises(DataError, match=r"has no AP of bleu under the original prompt"):
        run.value("AP", "bleu", "original")


@pytest.fixture(scope="module")
def made_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits, `first` and `second`, of one method with two seeds; not to be changed."""
    folder = tmp_path_factory.mktemp("compare") / "repository"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        git("init", "-q")
        subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], check=True)
        for name, seed in (("first", 1), ("second", 2)):
            run = made("lora_inc", seed)
            settings = {"seed": seed, "method": {"name": "lora_inc"}}
            settings |= {"sequence": {"tasks": {task: {} for task in ORDER}}}
            Path("params.yaml").write_text(yaml.safe_dump(settings))
            run.summary.write()
            assert run.rows
            lines = [
                RowScores.model_validate(
                    {"stage": stage, "task": task, "prompt": "chosen"}
                    | dict(zip(METRICS, scores[number].tolist(), strict=True))
                )
                for task, scores in run.rows["chosen"].items()
                for number, stage in enumerate(["base", *ORDER])
            ]
            write_scores("two", [], lines)
            git("add", "-A")
            git("commit", "-qm", name)
            git("tag", name)
    return folder


@pytest.fixture
def repository(made_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder is a copy, to be changed."""
    shutil.copytree(made_repository, tmp_path / "repository")
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "repository"


def git(*arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments], check=True
    )


def compare_runs(*names: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["compare.py", *names])
        compare.main()


@pytest.mark.usefixtures("repository")
def test_revisions_and_the_workspace_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    run = read_run("first")
    assert run.summary == made("lora_inc", 1).summary
    assert run.rows is not None
    np.testing.assert_allclose(run.rows["chosen"]["one"], table(1, 0)["one"])
    assert run.settings == {"method.name": "lora_inc", "sequence.tasks.one": {}, "sequence.tasks.two": {}}
    compare_runs("first", "second", "workspace")
    printed = capsys.readouterr().out
    assert "lora_inc  1,2" in printed
    assert "one method: nothing to compare." in printed


@pytest.mark.usefixtures("repository")
def test_a_file_of_results_is_the_run_that_it_was_made_of(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("first", "second"):
        settings = yaml.safe_load(subprocess.check_output(["git", "show", f"{name}:params.yaml"]))
        run = read_run(name)
        lines = [
            RowScores.of(stage, task, "chosen", dict(zip(METRICS, scores[number].tolist(), strict=True)))
            for task, scores in (run.rows or {})["chosen"].items()
            for number, stage in enumerate(["base", *ORDER])
        ]
        RunResults(settings=settings, summary=run.summary, rows=lines).write(Path(f"{name}.json"))
        found = read_run(f"{name}.json")
        assert (found.summary, found.settings) == (run.summary, run.settings)
        assert found.rows
        assert run.rows
        np.testing.assert_allclose(found.rows["chosen"]["two"], run.rows["chosen"]["two"], atol=1e-4)
    compare_runs("first.json", "second.json")
    from_files = capsys.readouterr().out
    compare_runs("first", "second")
    assert from_files == capsys.readouterr().out
    edited("first.json", {"format": 999})()
    with pytest.raises(SystemExit, match=r"^error: first\.json is of format 999, .*written again with this"):
        compare_runs("first.json")
    with pytest.raises(SystemExit, match=r"^error: none\.json is missing$"):
        compare_runs("none.json")


def test_a_csv_has_every_number_with_its_interval_and_test() -> None:
    groups = grouped([made("lora_inc", 1), made("lora_inc", 2), made("olora", 1, 5), made("olora", 2, 4)])
    text = comparison_tables.as_csv(groups, comparison_tables.every(groups), "rouge_l", "chosen")
    lines = {
        (line["method"], line["minus"], line["name"], line["over"]): line
        for line in csv.DictReader(io.StringIO(text))
    }
    names = comparison_tables.names_of(groups)
    assert len(lines) == (2 + 1) * 2 * len(names)
    tests, _ = difference(groups[1], groups[0], names, "rouge_l", "chosen")
    expected = {("lora_inc", "", "AP", "seeds"): groups[0].over_seeds("AP", "rouge_l", "chosen")}
    expected |= {("olora", "lora_inc", name, how): of[name] for how, of in tests.items() for name in names}
    for key, estimate in expected.items():
        found = [float(lines[key][end]) for end in ("value", "low", "high", "p")[: 3 + bool(key[1])]]
        assert found == pytest.approx([estimate.value, estimate.low, estimate.high, estimate.p][: len(found)])
    corrected = [float(line["p_holm"]) for line in lines.values() if line["minus"]]
    assert corrected == pytest.approx(holm([float(line["p"]) for line in lines.values() if line["minus"]]))
    assert lines["lora_inc", "", "AP", "seeds"]["p_holm"] == ""


def test_a_page_has_matrices_tables_and_instructions_side_by_side_as_text(tmp_path: Path) -> None:
    runs = [made("lora_inc", seed) for seed in (1, 2)] + [
        made("olora", 1, gain=5),
        made("olora", 2, rows=False),
    ]
    runs = [replace(run, instructions={"one": f"{MARKUP} {run.summary.method}"}) for run in runs]
    groups = grouped(runs)
    write_comparison(
        tmp_path / "page.html", groups, comparison_tables.every(groups), "log_likelihood", "chosen"
    )
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count('class="marks"') == 2  # a matrix and the stages of lora_inc
    assert "row scores are missing: olora" in text
    assert "<script>alert(1)" not in text
    assert text.count("&lt;script&gt;alert(1)") == 2  # of a text that two seeds share there is one
    table, _ = comparison_tables.means_table(groups, "log_likelihood", "chosen", sign="")
    assert all(f"<td>{cell}</td>" in text for line in table[1:] for cell in line[3:])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("page.txt", "ends in .html"),
        ("nowhere/page.html", "no file can be written"),
        ("folder.html", "no file"),
    ],
)
def test_a_page_s_bad_name_is_refused_before_any_work(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.html").mkdir()
    with pytest.raises(SystemExit, match=f"error: --html {name}: .*{said}"):
        compare_runs("no such revision", "--html", name)


def test_two_forms_at_once_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compare_runs("HEAD", "--md", "--csv")
    assert "not allowed with argument --md" in capsys.readouterr().err


def test_only_the_differences_that_are_asked_for_are_shown() -> None:
    groups = grouped([made(method, 1) for method in ("lora_inc", "olora", "replay")])
    assert len(comparison_tables.every(groups)) == 3
    pairs = comparison_tables.asked(groups, [["replay", "lora_inc"]])
    text = "\n".join(comparison_tables.differences(pairs, "rouge_l", "chosen"))
    assert "replay - lora_inc" in text
    assert "olora" not in text
    with pytest.raises(DataError, match="no run is of none; there are: lora_inc, olora, replay"):
        comparison_tables.asked(groups, [["none", "lora_inc"]])


def test_the_markdown_tables_have_a_line_a_method_and_the_differences_asked_for() -> None:
    groups = grouped([made("lora_inc", 1), made("lora_inc", 2), made("olora", 1, 5)])
    text = comparison_tables.markdown(
        groups, comparison_tables.asked(groups, [["olora", "lora_inc"]]), "rouge_l", "chosen"
    )
    assert text[0] == "| method | seeds | AP | BWT | FWT | forgetting |"
    assert [line.split(" | ")[:2] for line in text[2:4]] == [
        ["| `lora_inc`", "1, 2"],
        ["| `olora`", "1 (test rows)"],
    ]
    rows = groups[1].over_rows("rouge_l", "chosen")
    assert rows
    assert f"{rows['AP'].value:.1f} [{rows['AP'].low:.1f}, {rows['AP'].high:.1f}]" in text[3]
    assert text[4] == ""
    assert text[7].startswith("| `olora` - `lora_inc` | test rows | +")


def test_probes_have_columns_of_their_own() -> None:
    probed = {"sequence.probes": ["two"]}
    pairs = [(made(method, 1, 0, True, **settings)) for method, settings in (("a", probed), ("b", {}))]
    assert comparison_tables.names_of(grouped(pairs[:1]))[-2:] == ["unseen", "unseen_change"]
    assert comparison_tables.names_of(grouped(pairs)) == list(comparison_tables.NAMES)


@pytest.mark.usefixtures("repository")
def test_a_run_that_cannot_be_read_ends_in_one_line_that_names_revision_file_and_field() -> None:
    with pytest.raises(SystemExit, match=r"^error: no-such-revision: params\.yaml cannot be read"):
        compare_runs("no-such-revision")
    edited("metrics/details.json", {"test_fingerprint": DROP})()
    with pytest.raises(SystemExit, match=r"^error: metrics/details\.json: test_fingerprint: .*dvc repro"):
        compare_runs("workspace")
    edited("metrics/details.json", {"format": 999})()
    git("commit", "-qam", "by another version")
    git("tag", "third")
    with pytest.raises(
        SystemExit, match=r"^error: third: metrics/details\.json is of format 999, .*another version"
    ):
        compare_runs("first", "third")
    Path("metrics/details.json").unlink()
    with pytest.raises(SystemExit, match=r"^error: metrics/details\.json is missing"):
        compare_runs("workspace")
    edited("params.yaml", {"sequence": "none"})()
    with pytest.raises(SystemExit, match=r"^error: params\.yaml names no tasks under sequence"):
        compare_runs("workspace")


@pytest.mark.usefixtures("repository")
def test_a_run_without_its_row_scores_is_read_and_a_damaged_line_of_them_is_named() -> None:
    text = Path("metrics/rows/two.jsonl").read_text()
    Path("metrics/rows/two.jsonl").unlink()
    assert read_run("workspace").rows is None
    Path("metrics/rows/two.jsonl").write_text(text[:-30])
    last = len(text.splitlines())
    with pytest.raises(ArtifactError, match=rf"metrics/rows/two\.jsonl, line {last}.* is not valid JSON"):
        read_run("workspace")
