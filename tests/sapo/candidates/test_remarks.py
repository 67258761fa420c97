"""An answer that talks about itself is rejected; an instruction that only uses such words is not."""

from pathlib import Path

import pytest

from openai_server import OpenAIServer, completion
from reviews import INSTRUCTION, REVIEWS, STANCES, banks, check, fill, good, wanted
from sapo.candidates.api import from_api
from sapo.candidates.remarks import remarks
from sapo.runtime.outputs import write_json

LABELS = REVIEWS.labels
AROUND = {
    "it begins with words to the one who asked": [
        "Sure! {}",
        "Sure thing, {}",
        "Certainly. {}",
        "Of course: {}",
        "Okay, {}",
        "Got it! {}",
        "Here is the rewritten instruction: {}",
        "Here's one way to rephrase it. {}",
        "Below is a paraphrased text. {}",
        "Manner (version 1.1): plain and short. {}",
        "当然！{}",
        "当然可以，{}",
        "好的，{}",
        "没问题。{}",
        "以下是改写后的指令：{}",
        "这是重写的版本，{}",
        "Here's a polite version. {}",
        "Natürlich! {}",
        "Gerne, {}",
        "Hier ist die umformulierte Anweisung. {}",
        "Bien sûr ! {}",
        "Voici une version plus courte, {}",
        "¡Claro que sí! {}",
        "Por supuesto: {}",
        "Aquí tienes la instrucción reescrita, {}",
        "Ecco la versione nuova, {}",
        "Com certeza! {}",
    ],
    "it refuses": [
        "I'm sorry, I can't help with that. {}",
        "I\u2019m sorry, but I can\u2019t do that. {}",
        "I am unable to do so. {}",
        "Sorry, {}",
        "I cannot assist with this request. {}",
        "Unfortunately, I can't rewrite this. {}",
        "As an AI, I have no opinion. {}",
        "{} But I am an AI language model.",
        "很抱歉，{}",
        "对不起，我不能这样做。{}",
        "Es tut mir leid, das kann ich nicht. {}",
        "Je suis désolé. {}",
        "Lo siento, {}",
        "作为一个语言模型，我无法完成这个请求。{}",
    ],
    "it offers more": [
        "{} Let me know if you need anything else!",
        "{}\n\nLet me know if this works.",
        "{} Is there anything else?",
        "{} Feel free to adjust it.",
        "{}\n\nI hope this helps!",
        "{} Hope it helps.",
        "{} Would you like another version?",
        "{} If you'd like me to change the tone, say so.",
        "{} I'm happy to refine it.",
        "{}\n\n---\n\nWant me to make it shorter?",
        "{} Should I make it shorter?",
        "{}\n\nCan I help with more?",
        "{}希望对你有帮助。",
        "{}\n\n希望这个改写符合您的要求！",
        "{} 如有需要，请随时告诉我。",
        "{} 如果需要调整，请告诉我。",
    ],
    "it tells how it was written": [
        "{}\n\nNote: I kept both labels.",
        "{} (Note: I've preserved the labels.)",
        "{}\n\n(Note: labels kept as they are.)",
        "{}\n[Note: shorter than before]",
        "{}\n\n*Note: the tone is friendlier.*",
        "{}\n\n(Hinweis: kürzer.)",
        "{}\n（注：更短。）",
        "{} Both labels kept.",
        "{} I rephrased it as a question.",
        "{}\n\nThis version keeps the labels.",
        "{} The original instruction was longer.",
        "{}\n\nThe meaning is preserved.",
        "{}\n\n**Explanation:** shorter words.",
        "{}\n\nChanges made:\n- shorter",
        "{}\n\nCharacter count: 98",
        "{}\n\n(98 characters)",
        "{} 改写后的指令更简短。",
        "{} 我保留了所有标签。",
        "{}\n注：标签不变。",
        "{}（45个字）",
    ],
    "it lists several versions": [
        "Option 1: {0}\n\nOption 2: {0}",
        "Version 1:\n{0}\nVersion 2:\n{0}",
        "{0}\n**Paraphrase 2:** {0}",
        "{0}\n\nOr:\n\n{0}",
        "{0}\n\nAlternatively:\n{0}",
        "{0}\nAnother version: {0}",
        "1. {0}\n2. {0}",
        "- {0}\n- {0}",
        "版本一：{0}\n版本二：{0}",
        "{0}\n或者：\n{0}",
    ],
    "it holds a code fence or triple quotes": ["```\n{}\n```\nDone.", 'This: """{}"""', "~~~\n{}"],
    "it holds a dividing line": ["{}\n\n---\n\nShorter?", "Friendly\n***\n{}", "{0}\n=====\n{0}"],
    "it adds an example": [
        "{}\n\nText: I loved it.\nAnswer: positive",
        "{}\n\n**Review:** I loved it.\n**Answer:** positive",
        "{}\nInput: So boring.\n\nOutput: 'Negative'.",
        "{}\n\nExample 1:\nSo boring.\nLabel: negative",
        "{}\n\n文本：很好。\n答案：positive",
    ],
}
CASES = [(kind, around) for kind, all_around in AROUND.items() for around in all_around]


@pytest.mark.parametrize(("kind", "around"), CASES)
def test_each_kind_of_remark_is_named_with_its_words(kind: str, around: str) -> None:
    found = remarks(around.format(good(1)), INSTRUCTION, LABELS)
    assert any(reason.startswith(f"{kind} (") for reason in found), found


@pytest.mark.parametrize(("kind", "around"), CASES)
def test_an_original_that_holds_such_words_is_not_punished_for_them(kind: str, around: str) -> None:
    original = around.format(INSTRUCTION)
    found = remarks(around.format(good(1)), original, LABELS)
    assert not any(reason.startswith(f'{kind} ("') for reason in found), found


@pytest.mark.parametrize("name", sorted(banks()))
def test_the_repositorys_own_paraphrases_hold_no_remark(name: str) -> None:
    for text in banks()[name]:
        assert remarks(text, "", []) == [], text


@pytest.mark.parametrize(
    "text",
    [
        *[INSTRUCTION, STANCES.instruction, good(1)],
        "Would you let me know whether this review is positive or negative?",
        "Please let us know by writing positive or negative.",
        "Here is a little question: is the review positive or negative?",
        "Here's the deal: say positive or negative.",
        "Note to annotators: mark positive or negative.",
        "Note: answer positive or negative, nothing else.",
        "Say positive or negative.\n\nNote: one word only.",
        "As an AI assistant, decide: positive or negative?",
        "You are a language model. Say positive or negative.",
        "I can't decide whether this is positive or negative. Can you?",
        "I'll show you a review; say positive or negative.",
        "I give you two words, positive and negative, and you choose.",
        "1. Read the review. 2. Ask yourself whether it is positive or negative. 3. Answer.",
        "1. Read the review.\n2. Decide: positive or negative.\n3. Write that word.",
        "Choose one:\n- positive\n- negative",
        "Option A is positive, option B is negative.",
        "Judge the review.\n\nInput: a review\nOutput: positive or negative",
        "Judge it.\nText: what a reader wrote.\nAnswer: one word, positive or negative.",
        "Positive or negative? Judge the text.\n\nText: {text}\nAnswer:",
        "Write positive or negative, the labels unchanged.",
        "Klar und kurz: positive oder negative?",
        "(Note that only positive and negative count.)\nWhich is it?",
        "What did the reader want me, you or us to feel: positive or negative? - or both",
        "Is this what the reader wanted, or not? If it is, positive; if not, negative.",
        "注意：只输出A、B或C。",
        "请注意，只能回答A、B或C。",
        "以下文本支持、反对还是中立？",
        "这段文本的态度是什么？",
        "如果文本有问题，请输出C。",
        "下面是一段文本，判断态度。",
    ],
)
def test_an_instruction_that_resembles_a_remark_is_kept(text: str) -> None:
    assert remarks(text, INSTRUCTION, LABELS) == []


def test_without_labels_an_example_is_known_by_what_it_works_on() -> None:
    assert remarks("Sum it up.\n\nText: Oil rose.\nAnswer: Oil is dear.", "Summarise.", [])
    assert remarks("Sum it up.\n\nInput: an article\nOutput: one sentence", "Summarise.", []) == []


def test_the_answer_of_the_report_is_rejected_and_asked_for_again(endpoint: OpenAIServer) -> None:
    said = f"Sure! Here is the rewritten instruction: {good(900)} Let me know if you need anything else!"
    endpoint.first(completion(said))
    texts, how = from_api(REVIEWS, wanted(1))
    assert texts == [good(1)]
    assert how.asked == 2
    assert "Let me know if" in endpoint.requests[1].question


@pytest.mark.parametrize(("kind", "around"), CASES)
def test_an_answer_that_an_older_version_kept_is_checked_again(
    endpoint: OpenAIServer, tmp_path: Path, kind: str, around: str
) -> None:
    fill(endpoint, 2)
    [kept] = (tmp_path / "cache").rglob("1.json")
    write_json(kept, {"text": around.format(good(7)), "rejected": []})
    texts, _ = from_api(REVIEWS, wanted(3))
    check(texts, 3)
    assert all(remarks(text, INSTRUCTION, LABELS) == [] for text in texts)


def test_an_answer_that_an_older_version_kept_with_its_wrapper_is_used_without(
    endpoint: OpenAIServer, tmp_path: Path
) -> None:
    fill(endpoint, 2)
    [kept] = (tmp_path / "cache").rglob("1.json")
    write_json(kept, {"text": f"```\n{good(7)}\n```", "rejected": []})
    assert from_api(REVIEWS, wanted(3))[0] == [good(0), good(7), good(100)]
    assert len(endpoint.requests) == 1
