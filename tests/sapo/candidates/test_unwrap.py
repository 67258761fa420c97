"""What wraps all of an answer is removed, however many layers; what only looks like it is not touched."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviews import INSTRUCTION, REVIEWS, STANCES, banks, good
from sapo.candidates.unwrap import unwrapped

TEXT = "Is the reader's verdict positive or negative?\nSay one word: it's enough."
CHINESE = "读完文本，判断态度：从A，B或者C里选一项输出。"

AROUND = [
    "```\n{}\n```",
    "```text\n{}\n```",
    "````markdown\n{}\n````",
    "~~~\n{}\n~~~",
    '"""\n{}\n"""',
    "'''{}'''",
    '"{}"',
    "\u201c{}\u201d",
    "\u201e{}\u201c",
    "\u00ab {} \u00bb",
    "\u300c{}\u300d",
    "\u300e{}\u300f",
    "**{}**",
    "__{}__",
    "*{}*",
    "`{}`",
    "<answer>{}</answer>",
    "<Answer>\n{}\n</Answer>",
    "<rewritten_instruction>\n{}\n</rewritten_instruction>",
    "<output>{}</output>",
    "Here is the rewritten instruction:\n\n{}",
    "Here's a friendlier version of the instruction:\n{}",
    "Sure! Here is the rewritten instruction:\n\n{}",
    "Certainly, below is the prompt, rephrased as a question:\n\n{}",
    'Sure! Here is the rewritten instruction: "{}"',
    "Okay, here is the new version: **{}**",
    "**Rewritten instruction:**\n\n{}",
    "**Rewritten Instruction**\n{}",
    "**New instruction:** {}",
    "### Rewritten instruction\n\n{}",
    "Rewritten instruction: {}",
    "The rewritten instruction:\n{}",
    "Paraphrase: {}",
    "Answer:\n{}",
    "Version 1.1: {}",
    "**Version 3.2**\n\n{}",
    "Instruction (plain and short):\n{}",
    "以下是改写后的指令：\n{}",
    "当然！以下是改写后的指令：\n\n{}",
    "改写后的指令：{}",
    "**新指令：**\n{}",
    "第 1.1 稿：{}",
    'Rewritten: "{}"',
    "**Rephrased:** {}",
    "Revised:\n\n{}",
    "Here's a polite version: {}",
    "Sure, here\u2019s a shorter version: {}",
    "Here is the instruction in other words, a paraphrase: {}",
    "**Instruction:** {}",
    "Instruction: {}",
    "__Prompt__: {}",
    "{}\n\n[End of instruction]",
    "{}\n\n--- End of the rewritten instruction ---",
    "{}\n*** END ***",
    "{}\n【指令结束】",
    "{}\n\n---",
    "---\n\n{}\n\n---\n",
    "Here is the rewritten instruction:\n\n---\n\n{}\n\n---",
    "Natürlich! Hier ist die umformulierte Anweisung:\n\n{}",
    "Hier ist eine höfliche Fassung:\n{}",
    "Bien sûr ! Voici l'instruction reformulée :\n\n{}",
    "Voici la consigne réécrite : {}",
    "¡Claro! Aquí tienes la instrucción reescrita:\n\n{}",
    "Por supuesto, aquí está la nueva versión:\n{}",
    "Certo! Ecco l'istruzione riformulata:\n\n{}",
    "Claro! Aqui está a instrução reescrita:\n\n{}",
    "<think>positive? {{x}}\n</think>\n\n{}",
    "Well, positive?</think>{}",
    "<thinking>a</thinking>\n{}",
    "<reasoning>a</reasoning> {}",
    "<seed:think>a</seed:think>{}",
    "[THINK]a[/THINK]{}",
    "\u25c1think\u25b7a\u25c1/think\u25b7{}",
    "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>",
]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("text", [TEXT, CHINESE], ids=["en", "zh"])
def test_each_kind_of_wrapper_is_removed(around: str, text: str) -> None:
    assert unwrapped(around.replace("{}", text).replace("{{", "{").replace("}}", "}")) == text
    assert unwrapped(f"\r\n {around.replace('{}', text)} \n") == text


@pytest.mark.parametrize("text", [TEXT.replace("\n", " "), CHINESE])
def test_quotes_of_one_sign_may_hold_apostrophes_and_json_may_hold_the_text(text: str) -> None:
    assert unwrapped(f"'{text}'") == text
    assert unwrapped(f"\u2018{text}\u2019") == text
    assert unwrapped(f'{{"instruction": "{text}"}}') == text
    assert unwrapped(f'```json\n{{"rewritten_instruction": "{text}"}}\n```') == text
    assert unwrapped(f'"Say \\"so\\". {text}"') == f'Say "so". {text}'
    assert unwrapped(f"> {text}\n> {text}") == f"{text}\n{text}"


layers = st.lists(st.sampled_from([one for one in AROUND if "think" not in one.lower()]), max_size=4)


@settings(deadline=None)  # how long a test takes depends on the machine
@given(around=layers)
def test_layers_within_layers_are_removed_in_any_order(around: list[str]) -> None:
    text = "Positive or negative, which of them is it"
    for one in around:
        wrapped = one.replace("{}", text)
        if unwrapped(wrapped) != unwrapped(text):
            return  # two signs of the same kind that merge, as in "" or ****
        text = wrapped
    assert unwrapped(unwrapped(text)) == unwrapped(text)


@pytest.mark.parametrize(
    "text", ["<think>positive?", "<thinking> Well,\n\nso", "[THINK]", "\u25c1think\u25b7 a"]
)
def test_thinking_that_does_not_end_leaves_nothing(text: str) -> None:
    assert unwrapped(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        *[text for bank in banks().values() for text in bank],
        *[
            INSTRUCTION,
            REVIEWS.suffix,
            STANCES.instruction,
            good(1),
            "",
            '"',
            "{",
            "[1]",
            "<a>b</a>",
        ],
        '"positive" where the reader liked it, and the other word where not: "negative"',
        "'positive' or 'negative'",
        "**positive** or **negative**",
        "`yes` or `no`",
        "<b>Say</b> yes or <b>no</b>",
        "<answer>yes</answer> or <answer>no</answer>",
        "Task: say yes or no.",
        "Answer with one of these words:\n- yes\n- no",
        "Choose one:\n---\nyes or no",
        "Read to the end.\nAnswer at the end",
        "Here are three words: yes, no, mixed. Which is it?",
        "Hier ist ein Text:\nist er gut?",
        "Here is a review:\nis it good?",
        "Output: yes or no",
        'The answer is one of these: "yes"',
        '{"yes": 1}',
    ],
)
def test_a_text_that_nothing_wraps_stays_as_it_is(text: str) -> None:
    assert unwrapped(text) == text


@pytest.mark.parametrize(
    "around",
    [
        "```\n{}\n```",
        '"{}"',
        "**{}**",
        "Instruction:\n{}",
        "Instruction: {}",
        "{}\n---",
        "<think>a</think>{}",
    ],
)
def test_what_the_original_is_wrapped_in_belongs_to_the_text(around: str) -> None:
    text = around.format("Is it positive?")
    assert unwrapped(text, around.format("Positive or not?")) == text
    assert unwrapped(text, "Positive or not?") == "Is it positive?"
