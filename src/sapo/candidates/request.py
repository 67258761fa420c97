"""What a language model is asked when a paraphrase is wanted, in English or Chinese."""

from collections.abc import Sequence
from typing import Literal

from sapo.artifacts.task import Task
from sapo.candidates.checks import MAX_RATIO, keeps_label

Style = Literal["manners", "plain"]
# Each candidate is asked for in another manner, so that twenty answers are not twenty times the same one.
MANNERS = {
    "en": [
        "plain and short",
        "formal, as in a specification",
        "friendly, as to a colleague",
        "as a question",
        "as numbered steps within one paragraph",
        "beginning with the possible answers",
        "beginning with the role that the reader takes",
        "detailed, every condition spelt out",
        "as a telegram: no word too many",
        "as a note to a new annotator",
    ],
    "zh": [
        "简短直白",
        "正式，像规范文件",
        "亲切，像对同事说话",
        "用提问的方式",
        "在一段话里分步骤说明",
        "先列出可选的答案",
        "先说明读者扮演的角色",
        "详细，把每个条件讲清楚",
        "像电报一样精炼",
        "像写给新标注员的说明",
    ],
}


def request_text(
    task: Task, slot: int, attempt: int, faults: Sequence[str] = (), style: Style = "manners"
) -> str:
    """The request for the paraphrase of a slot; `faults` says why the last attempt's answer was not taken.

    style: `manners` asks in another manner for each slot and attempt, so that no two requests are the same,
    and a deterministic server can serve too. `plain` asks the same every time, as the public implementation
    of SAPO does: the server's temperature alone makes the answers differ.
    """
    labels = [label for label in task.labels if keeps_label(task.instruction, label)]
    manner = MANNERS[task.language][(slot + attempt) % len(MANNERS[task.language])]
    variant = f"{slot + 1}.{attempt + 1}"
    longest = int(MAX_RATIO * len(task.instruction))
    if style == "plain":
        faults = ()
    if task.language == "zh":
        parts = [
            "下面三个引号之间是一条给语言模型的任务指令，指令之后会跟着要处理的文本。请换一种说法重写这条指令：任务、条件和答案的形式都不变。",
            f'"""\n{task.instruction}\n"""',
            (f"写法（第 {variant} 稿）：{manner}。" if style == "manners" else "")
            + f"长度不超过 {longest} 个字符。",
            f"以下标签必须一字不差地保留：{'、'.join(labels)}。" if labels else "",
            f"上一次的答案不能用（{'；'.join(faults)}），请避免同样的问题。" if faults else "",
            "只输出重写后的指令，不要解释，不要引号，不要完成任务本身。",
        ]
    else:
        parts = [
            "Between the triple quotes stands an instruction for a language model; the text that it is "
            "to work on follows it. Rewrite the instruction in other words. The task, its conditions and the "
            "form of the answer stay the same.",
            f'"""\n{task.instruction}\n"""',
            (f"Manner (version {variant}): {manner}. " if style == "manners" else "")
            + f"At most {longest} characters.",
            f"Keep these labels exactly as they are spelt: {', '.join(labels)}." if labels else "",
            f"Your last answer could not be used ({'; '.join(faults)}): avoid that." if faults else "",
            "Write the new instruction only: no explanation, no quotation marks, "
            "and do not carry out the task.",
        ]
    return "\n\n".join(part for part in parts if part)
