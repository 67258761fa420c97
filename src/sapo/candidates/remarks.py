"""Remarks of a language model on its answer, where the answer alone was asked for.

The patterns stand for words of the one who rewrites. A kind of which the original instruction has words
itself is not looked for.
"""

import re
from collections.abc import Sequence

from sapo.candidates.checks import MIN_RATIO, keeps_label

REWRITE = r"(?:re-?writ\w*|re-?phras\w*|re-?word\w*|paraphras\w*|revis\w*)"
MINE = r"(?:instructions?|prompts?|wording|versions?)"
SENTENCE = r"(?:[.!?)]\s+|\n\W*)"  # the end of the one before
LINE = r"(?:-{3,}|\*{3,}|_{3,}|={3,})"
NUMBERED = r"(?:option|version|variant|alternative|paraphrase|rewrite|attempt)"
DONE = r"(?:kept|preserved|unchanged|retained)"
# \A\W*: at the beginning; \n\W*: at the beginning of a later line
REMARKS = {
    "it begins with words to the one who asked": [
        r"\A\W*(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|gladly)\b[\s!,.:\u2014-]",
        r"\A\W*(?:got it|no problem|understood|great question|(?:I'd be )?happy to help)\b",
        rf"\A\W*(?:here(?:'s| is| are)|below (?:is|are)|this is)\b[^.\n]{{0,100}}\b(?:{REWRITE}|new {MINE})",
        r"\A\W*here(?:'s| is) (?:an?|one|the|my|your)\b[^.:\n]{0,60}\bversion\b",
        r"\A\W*manner \(version",
        r"\A\W*(?:aber )?(?:natürlich|gerne?|selbstverständlich|klar)\s*[!,.:\u2014]",
        r"\A\W*hier (?:ist|sind)\b[^.\n]{0,60}(?:anweisung|instruktion|version|fassung|umformul|umgeschrieb)",
        r"\A\W*(?:bien s[ûu]r|certainement|avec plaisir|d'accord|absolument|volontiers)\b",
        r"\A\W*voici\b[^.\n]{0,60}(?:instruction|consigne|version|r[eé]formul|réécri)",
        r"\A\W*¡?(?:claro(?: que s[ií])?|por supuesto|desde luego|con gusto)\b\s*[!,.:\u2014]",
        r"\A\W*(?:aqu[ií] (?:tienes|tiene|est[áa])|ecco)\b[^.\n]{0,60}(?:istr|instru|vers|r.formul|reescr)",
        r"\A\W*(?:certo|certamente|claro|com certeza)\s*[!,:]",
        r"\A\W*(?:当然(?:可以)?|好的|没问题|明白了?|收到|可以的?|很高兴|非常乐意)(?:[\s,.:!~]|[^\w\s])",
        r"\A\W*(?:以下|下面|这)是?[^。\n]{0,20}(?:改写|重写|修改|新的?|优化)[^。\n]{0,10}(?:指令|版本|说法|内容)",
    ],
    "it refuses": [
        r"\A\W*(?:(?:I'm|I am) (?:(?:very|so|truly) )?(?:sorry|unable|afraid)|sorry|(?:my )?apologies)\b",
        r"\A\W*(?:unfortunately,? )?I (?:can't|cannot|can not|won't|will not|am not able to) "
        r"(?:help|assist|comply|fulfil|do that|provide|re-?write|create|generate|write|process|engage|carry)",
        r"\bas an AI\b[^.\n]{0,60}\bI\b",
        r"\bI(?:'m| am) (?:just |only )?an? (?:AI|(?:large )?language model)\b",
        r"\A\W*(?:es )?tut mir leid\b",
        r"\A\W*(?:entschuldigung|(?:je suis )?désolée?|lo siento|mi dispiace|desculpe)\b",
        r"\A\W*(?:很|非常|十分)?(?:抱歉|对不起|不好意思)",
        r"\A\W*(?:作为[^。，\n]{0,20}，?)?我(?:不能|无法|没有办法)(?:帮|协助|提供|满足|完成|改写|重写|回答|生成|处理)",
    ],
    "it offers more": [
        r"\blet me know (?:if|should|in case)\b",
        r"\b(?:is|was) there anything else\b",
        r"\bfeel free to (?:ask|let|reach|adjust|modify)\b",
        r"\bhope (?:this|that|it) (?:helps|works|meets|is (?:helpful|useful|what))\b",
        r"\bif you(?:'d| would)? (?:like|want|need|prefer) (?:me|another|any|a different|more|further)\b",
        r"\b(?:would|do) you (?:like|want|need) (?:me|another|any|a different|more)\b",
        r"\bI(?:'m| am|'d be| would be)? (?:happy|glad) to (?:adjust|help|revise|make|provide|refine)\b",
        rf"{SENTENCE}(?:do you )?want me to\b",
        rf"{SENTENCE}(?:should|shall|can|could|may) I (?:make|adjust|help|revise|rewrite|rephrase|shorten)\b",
        r"\bI can (?:also )?(?:adjust|provide|make|offer|refine|rewrite)\b",
        r"希望(?:这|对您|对你|能|以上)[^。\n]{0,20}(?:帮助|有用|满意|符合|要求)",
        r"随时(?:告诉|告知|联系|提出|找)",
        r"如(?:果|有|需)[^。\n]{0,20}(?:需要|疑问|问题|调整|修改)[^。\n]{0,15}(?:告诉|告知|联系|随时|提出)",
    ],
    "it tells how it was written": [
        rf"\bI(?:'ve| have)? (?:{REWRITE}|rewrote|maintained|{DONE})\b",
        rf"\bthe (?:original|{REWRITE}|new) (?:instruction|prompt)\b",
        rf"\bthis (?:version|{REWRITE}|instruction) (?:keeps|preserves|maintains|retains|is|uses|has)\b",
        rf"\b(?:labels?|meaning|conditions?|task) (?:is|are|was|were|has been|have been) {DONE}\b",
        r"\blabels? (?:kept|preserved|retained)\b",
        r"\n\s*[(\[（【*_]+(?:note|nb|n\.b\.|p\.?s\.?|hinweis|anmerkung|nota|remarque|注|说明)(?![a-z])[^\n]*[)\]）】*_]\W*\Z",
        r"\n\s*\n\W*(?:(?:key |what )?chang(?:es?|ed)(?: made)?|explanation|rationale)\W*[:：\n]",
        r"\n\W*(?:length|characters?(?: count)?|word count)\W*[:：]\W*\d",
        r"\(\d+ (?:characters|words)\)\W*\Z",
        r"(?:改写|重写|修改)后的?(?:指令|版本|说法)",
        r"我(?:已|将|把)?[^。\n]{0,10}(?:保留|改写|重写)了",
        r"\n\W*(?:注|说明|解释|备注)[:：]",
        r"（\d+ ?个?字符?）\W*\Z",
    ],
    "it lists several versions": [
        rf"\n\W*{NUMBERED} ?#?2\b",
        r"\n\W*(?:or|alternatively|another (?:option|version|way)[^:\n]{0,30})\W*[:\n]",
        r"\n\W*(?:版本|选项|方案|改写|说法) ?[二2]",
        r"\n\W*(?:或者?|另一种(?:说法|版本))\W*[:：\n]",
    ],
    "it holds a dividing line": [rf"(?:\A|\n)[ \t]*{LINE}[ \t]*(?:\n|\Z)"],
    "it holds a code fence or triple quotes": ["```", "~~~", '"""', "'''"],
}
PATTERNS = {kind: re.compile("|".join(patterns), re.IGNORECASE) for kind, patterns in REMARKS.items()}
# Two lines of a worked example: what is asked about, and the answer
ASKED = re.compile(
    r"\W*(?:(?P<text>text|article|review|sentence|question|passage|tweet|example|文本|例子|示例|句子|问题)"
    r"|input|输入)[ \d]*\W*[:：]",
    re.IGNORECASE,
)
SAID = re.compile(
    r"\W*(?:answer|output|label|category|response|result|答案|回答|输出|标签)\W*?[:：](?P<said>.*\w.*)",
    re.IGNORECASE,
)
LONGEST = 400  # characters of a line that are looked at
ITEM = re.compile(r"^\s*(?:\d+[.)、]|[-*\u2022])\s*(.+)$", re.MULTILINE)


def remarks(text: str, original: str, labels: Sequence[str]) -> list[str]:
    """Why a text is more than a paraphrase of `original`; empty when it is not."""
    # The patterns would take minutes for many blank lines in a row
    text, original = (re.sub(r"\n\s*\n", "\n\n", one.replace("\u2019", "'")) for one in (text, original))
    found = [
        f'{kind} ("{" ".join(hit[0].split()):.40}")'
        for kind, pattern in PATTERNS.items()
        if (hit := pattern.search(text)) and not pattern.search(original)
    ]
    kept = [label for label in labels if keeps_label(original, label)]
    whole = [
        item
        for item in ITEM.findall(text)
        if len(item) >= MIN_RATIO * len(original) and all(keeps_label(item, label) for label in kept)
    ]
    if kept and len(whole) > 1:
        found.append(f"it lists several versions ({len(whole)} items with every label)")
    if (example := _example(text, labels)) and not _example(original, labels):
        found.append(f'it adds an example ("{example:.40}")')
    return found


def _example(text: str, labels: Sequence[str]) -> str:
    """The answer of an example that the text ends in; empty without one.

    With labels, it is one of them: "Answer: yes or no" tells the form of the answer.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    said = SAID.fullmatch(lines[-1][:LONGEST]) if len(lines) > 1 else None
    asked = [found for line in lines[1:-1] if (found := ASKED.match(line[:LONGEST]))]
    if not said or not asked:
        return ""
    answer = said["said"].strip(" \t\"'*`.。")
    solved = answer.casefold() in map(str.casefold, labels) if labels else asked[-1]["text"] is not None
    return f"{asked[-1][0].strip()} ... {lines[-1].strip()}" if solved else ""
