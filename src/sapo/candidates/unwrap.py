"""A language model's answer without what wraps all of it: thinking, a code fence, quotes, tags, a label."""

import json
import re

THINK = r"(?:\w+:)?(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad)"
# Some servers send the end of the thinking without its beginning
THOUGHT = re.compile(
    rf"\A.*(?:</{THINK}>|\[/THINK\]|\u25c1/think\u25b7|<\|channel\|>final<\|message\|>)",
    re.DOTALL | re.IGNORECASE,
)
UNFINISHED = re.compile(rf"\A\s*(?:<{THINK}>|\[THINK\]|\u25c1think\u25b7)", re.IGNORECASE)
FENCE = re.compile(r"(```+|~~~+)(?:[\w-]*[ \t]*\n)?(.*?)\n?[ \t]*\1", re.DOTALL)
TAG = re.compile(r"<(?P<tag>[\w-]+)>(?P<inner>.*)</(?P=tag)>", re.DOTALL)
# The same sign on both sides, the longest first; then signs of which the closing one differs
MARKS = ('"""', "'''", "***", "**", "__", '"', "`", "*", "_")
SINGLE = re.compile(
    r"['\u2018](?:[^'\u2019]|(?<=\w)['\u2019](?=\w))+['\u2019]"
)  # apostrophes may stand inside
PAIRS = {"\u201c": "\u201d", "\u201e": "\u201c", "\u00ab": "\u00bb"} | {
    "\u300c": "\u300d",
    "\u300e": "\u300f",
    "\u300a": "\u300b",
}
# What an answer is called: <answer>, {"instruction": ...}, **Rewritten instruction**
NAME = (
    r"(?:(?:the|your|a|my|here is the)[ _-])?"
    r"(?:(?:new|final|(?:re-?written|revised|rephrased|reworded|paraphrased)|updated|improved|output)[ _-])*"
    r"(?:answer|final|output|response|result|instructions?|prompt|paraphrase|rewrite|rewriting|rewording"
    r"|version(?: [\d.]+)?|text|task instruction|re-?written|revised|rephrased|reworded|paraphrased)"
)
NAME_ZH = (
    r"(?:(?:改写|重写|修改|新|最终)(?:后)?的?)?(?:指令|版本|说法|答案|任务指令)|改写|重写|第 ?[\d.]+ ?稿"
)
NAMED = re.compile(rf"(?:{NAME}|{NAME_ZH})", re.IGNORECASE)
# A line that announces what follows: a heading, a bold label, a label with a colon, a sentence with a colon
LABEL = re.compile(
    rf"(?:\*\*|__)?(?:(?=\W*(?:the |your |a |my )?(?:new|re|para|final|version|instruction|prompt)){NAME}"
    rf"|(?=改写|重写|修改|新|第){NAME_ZH})(?:\*\*|__)?[:：](?:\*\*|__)?",
    re.IGNORECASE,
)
HEADING = re.compile(
    rf"(?:#+[ \t]*)?(?:\*\*|__)?(?:{NAME}|{NAME_ZH})(?:[ \t]*\([^()\n]{{1,60}}\))?[ \t]*"
    r"[:：]?(?:\*\*|__)?[:：]?",
    re.IGNORECASE,
)
# Words of an announcement in German, French, Spanish, Italian and Portuguese
HERE = (
    r"hier|natürlich|gerne?|selbstverständlich|klar|voici|bien sûr|certainement|d['\u2019]accord|avec plaisir"
    r"|aqu[ií]|claro|por supuesto|desde luego|con gusto|ecco|certo|certamente|com certeza"
)
REWORDED = (
    r"anweisung|instruktion|fassung|umformul\w*|umgeschrieb\w*|paraphras\w*|instruct?ions?|consigne"
    r"|ré[ée]cri\w*|r[eé]?formul\w*|version[e]?|versi[óo]n|vers[ãa]o|instrucci[óo]n|reescri\w*|par[áa]frasis"
    r"|instru[çc][ãa]o|istruzione|riscri\w*|riformul\w*|prompt"
)
ANNOUNCED = re.compile(
    r"(?=.{0,160}\Z)(?:\W*\b(?:sure|certainly|of course|absolutely|okay|ok|great|here|below|this is|the)\b"
    r".*\b(?:instructions?|prompt|version|rewrit\w*|re-?phras\w*|re-?word\w*|paraphras\w*)\b.*"
    r"|\W*(?:当然|好的|没问题|以下|下面|这是|根据).*(?:指令|改写|重写|版本).*"
    rf"|\W*\b(?:{HERE})\b.*\b(?:{REWORDED})\b.*)[:：]\W*",
    re.IGNORECASE,
)
# Such a sentence, of which no other use is likely, may stand on the line of the text that it announces
PRESENTED = re.compile(
    r"(?=.{0,160}\Z)\W*(?:(?:sure|certainly|of course|absolutely|okay|ok|great)\b[^:\n]{0,40})?"
    r"\b(?:here(?:['\u2019]s| is) (?:a|an|one|the|my|your)|voici|hier ist|aqu[ií] (?:tienes|está))\b[^:.\n]*"
    rf"\b(?:versions?|instructions?|prompt|paraphrase|rewrite|{REWORDED})\W*[:：]\W*",
    re.IGNORECASE,
)
# What marks the end, or divides the text from nothing
ENDING = re.compile(
    r"\n[^\w\n]*(?:end (?:of )?(?:the )?(?:(?:new|re-?written|revised|rephrased) )?"
    r"(?:instructions?|prompt|paraphrase|version)|(?<=\W)end(?=\W)|(?:指令|改写|重写)?(?:结束|完毕?))[^\w\n]*\Z"
    r"|\n[ \t]*(?:-{3,}|\*{3,}|_{3,}|={3,})[ \t]*\Z",
    re.IGNORECASE,
)
RULE = re.compile(r"\A(?:-{3,}|\*{3,}|_{3,}|={3,})[ \t]*\n")


def unwrapped(text: str, original: str = "") -> str:
    """The text without the layers that wrap all of it, however many there are.

    A layer that `original`, the instruction to be paraphrased, has too belongs to the text. Unfinished
    thinking leaves nothing.
    """
    text = text.replace("\r\n", "\n").strip()
    if not THOUGHT.search(original):
        text = THOUGHT.sub("", text).removesuffix("<|return|>").strip()
    if UNFINISHED.search(text) and not UNFINISHED.search(original):
        return ""
    original = original.strip()
    while (inner := _inner(text)) != text and _inner(original) == original:
        text = inner
    return text


def _inner(text: str) -> str:
    """The text without its outermost layer."""
    if (whole := RULE.sub("", ENDING.sub("", text)).strip()) and whole != text:
        return whole
    if (fenced := FENCE.fullmatch(text)) and fenced[1] not in fenced[2]:
        return fenced[2].strip()
    tagged = TAG.fullmatch(text)
    if tagged and NAMED.fullmatch(tagged["tag"]) and f"<{tagged['tag']}>" not in tagged["inner"]:
        return tagged["inner"].strip()
    for mark in MARKS:
        if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
            inside = text[len(mark) : -len(mark)]
            return inside.strip() if mark not in inside else _value(text) or text
    if len(text) > 1 and PAIRS.get(text[0]) == text[-1] and not {text[0], text[-1]} & set(text[1:-1]):
        return text[1:-1].strip()
    if SINGLE.fullmatch(text):
        return text[1:-1].strip()
    if text.startswith(">") and all(line.startswith(">") for line in text.splitlines()):
        return "\n".join(line.removeprefix(">").removeprefix(" ") for line in text.splitlines()).strip()
    return _value(text) or _rest(text)


def _value(text: str) -> str:
    """The text that is all of a JSON object, or a JSON string with escaped quotes; empty for what is none."""
    if not text.startswith("{") and '\\"' not in text:
        return ""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if isinstance(content, dict) and len(content) == 1:
        [(name, content)] = content.items()
        content = content if NAMED.fullmatch(name) else None
    return content.strip() if isinstance(content, str) else ""


def _rest(text: str) -> str:
    """What follows a line that announces it; after a sentence on the same line, only what is wrapped."""
    first, _, rest = text.partition("\n")
    if rest.strip() and (HEADING.fullmatch(first.strip()) or ANNOUNCED.fullmatch(first.strip())):
        return rest.strip()
    if parts := re.fullmatch(r"([^:：\n]*[:：](?:\*\*|__)?)\s*(.+)", text, re.DOTALL):
        announced = ANNOUNCED.fullmatch(parts[1].strip()) and _inner(parts[2]) != parts[2]
        label = parts[1].strip()
        if announced or LABEL.fullmatch(label) or PRESENTED.fullmatch(label):
            return parts[2].strip()
    return text
