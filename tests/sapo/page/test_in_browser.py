"""The page in Chromium: nothing is fetched, nothing complains, filters work, and all can read it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from browser import Seen, opened
from canaries import MARKUP
from pages import answered
from sapo.analysis.answer_metrics import METRICS
from sapo.artifacts.summary import Summary

SIZES = [(1280, 900), (400, 800)]
STATES = [("forgotten", (0, 100, 0)), ("kept", (0, 100, 100)), ("never learned", (0, 0, 0))]
NASTY = [
    "<img src=x onerror=alert(1)>",
    MARKUP,
    "</script><script>alert(2)</script>",
    "<!--",
    "שלום",
    "a\x00b",
]


def rows(count: int, more: str = "") -> list[Any]:
    """Rows of each state in turn; more: what each text ends in."""
    return [
        (f"text {n}{more}", "yes", [(f"said {n} {s}{more}", score) for s, score in enumerate(scores)])
        for n in range(count)
        for _, scores in [STATES[n % 3]]
    ]


@pytest.fixture(scope="module")
def page(write: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    nasty = [(text, text, [(text, 0.0), (text, 100.0), (text, 0.0)]) for text in NASTY]
    answers = [answered("mood", 1, rows(60), ("yes", "no")), answered("story", 2, nasty)]
    return write(tmp_path_factory.mktemp("page") / "report.html", answers)


@pytest.fixture
def seen(browser: Any, page: Path) -> Seen:
    return opened(browser, page)


def test_nothing_is_fetched_and_nothing_complains(seen: Seen, page: Path) -> None:
    assert seen.requests == [page.as_uri()]
    assert seen.complaints == []


def test_the_numbers_are_those_of_the_metrics(seen: Seen, summary_and_page: tuple[Summary, Any]) -> None:
    summary = summary_and_page[0]
    headline, metric = summary.headline(), METRICS["rouge_l"]
    names = seen.texts(".headline dt")
    assert names == [name for name in headline if name != "interval"]
    assert seen.texts(".headline .value") == [metric.shown(headline[name]) for name in names]
    assert seen.texts(".headline .interval") == [metric.ends(headline["interval"][name]) for name in names]
    seen.page.locator("#headline details summary").click()
    for number, kind in enumerate(("chosen", "original")):
        table = seen.page.locator("#headline table").nth(number)
        names = table.locator("thead th").all_inner_texts()[1:]
        for name, of in METRICS.items():
            values, ends = summary.values(name, kind), summary.intervals(name, kind)
            cells = table.locator("tbody tr", has_text=of.label).locator("td").all_inner_texts()
            assert cells == [f"{of.shown(values[n])} {of.ends(ends[n])}" for n in names]


def test_filters_task_and_search_show_what_they_say(seen: Seen) -> None:
    counts = {"": "66", "forgotten": "20", "kept": "20", "learned later": "0", "never learned": "26"}
    for state, count in counts.items():
        assert seen.texts(f'[data-count="{state}"]') == [count]
    for state in ("forgotten", "kept", "never learned"):
        seen.choose(state)
        assert seen.texts("#shown") == [f"rows 1 to {min(25, int(counts[state]))} of {counts[state]}"]
        assert set(seen.texts("#rows .state")) == {state}
    seen.choose("")
    seen.page.locator("#next").click()
    assert seen.texts("#shown") == ["rows 26 to 50 of 66"]
    seen.page.select_option("#task", label="story")
    assert seen.texts("#shown") == [f"rows 1 to {len(NASTY)} of {len(NASTY)}"]
    seen.page.select_option("#task", label="all tasks")
    seen.page.fill("#search", "TEXT 41")
    assert seen.texts("#rows .text") == ["text 41"]
    seen.page.fill("#search", "nowhere")
    assert seen.texts("#shown") == ["no row has this"]
    seen.page.fill("#search", "")
    seen.page.select_option("#order", value="fall")
    assert seen.texts("#rows .state")[0] == "forgotten"


def test_a_row_shows_its_answers_and_on_demand_its_prompts_and_scores(seen: Seen) -> None:
    row = seen.page.locator("#rows > li").first
    assert row.locator(".answers .given").all_inner_texts() == ["said 0 0", "said 0 1", "said 0 2"]
    assert row.locator(".verdict").all_inner_texts() == ["✗ wrong", "✓ right", "✗ wrong"]
    seen.unfold([row.locator("summary")])
    prompts = row.locator(".prompt").all_text_contents()
    assert prompts == [f"{how} mood.\n\nText:\ntext 0\n\nAnswer:" for how in ("Say", "Better")]
    assert row.locator("table td").all_inner_texts()[:4] == ["0.0", "0.0", "0.0", "-1.000"]


def test_texts_are_never_markup_and_hidden_characters_are_seen(seen: Seen) -> None:
    seen.page.select_option("#task", label="story")
    seen.unfold(seen.page.locator("#rows summary").all())
    assert seen.page.locator("#rows .prompt").count() == len(NASTY) * 2
    shown = seen.page.locator("#rows .text").all_text_contents()
    assert shown == [text.replace("\x00", "\u2400") for text in NASTY]
    assert seen.page.locator("#rows img, #rows script, #rows a").count() == 0
    assert seen.page.locator("#rows .text").nth(4).evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert seen.complaints == []


def test_the_metric_that_is_chosen_is_shown_alone(seen: Seen) -> None:
    for name in METRICS:
        seen.page.locator(f'input[name="metric"][value="{name}"]').check()
        visible = seen.page.locator("[data-metric]:not([hidden])")
        assert [part.get_attribute("data-metric") for part in visible.all()] == [name]


def test_a_mark_says_what_it_stands_for(seen: Seen) -> None:
    mark = seen.page.locator('#candidates svg [aria-label*="Better mood."]').first
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    seen.page.locator("#tip", has_text="loss 1.2500").wait_for()


def test_of_ten_thousand_answers_a_filter_and_a_search_draw_a_few(
    browser: Any, write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(tmp_path / "report.html", [answered("mood", 1, rows(3334, " x" * 45), ("yes", "no"))])
    seen = opened(browser, path)
    assert seen.texts('[data-count=""]') == ["3334"]
    for act, count in (
        (lambda: seen.choose("forgotten"), 1112),
        (lambda: seen.page.fill("#search", "said 333"), 3),
        (lambda: seen.page.fill("#search", ""), 1112),
    ):
        act()
        assert seen.texts("#shown") == [f"rows 1 to {min(25, count)} of {count}"]
        assert seen.page.locator("#rows > li").count() == min(25, count)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=["wide", "narrow"])
def test_it_fits_the_window_and_axe_finds_nothing(
    scheme: str, size: Sequence[int], browser: Any, page: Path
) -> None:
    """axe-core: contrast, names of controls, order of headings, what a keyboard reaches."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    seen = opened(browser, page, color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
    assert seen.page.evaluate("document.documentElement.scrollWidth") == size[0]
    seen.unfold(seen.page.locator("summary:visible").all()[:8])
    found = axe.Axe().run(seen.page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []


def test_a_keyboard_reaches_filters_and_rows(seen: Seen) -> None:
    seen.page.locator('input[name="state"]').first.focus()
    seen.page.keyboard.press("ArrowRight")
    assert set(seen.texts("#rows .state")) == {"forgotten"}
    reached = []
    for _ in range(6):
        seen.page.keyboard.press("Tab")
        reached.append(seen.page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert reached == ["task", "order", "search", "SUMMARY", "SUMMARY", "SUMMARY"]


def test_without_scripts_all_but_the_answers_is_there(browser: Any, page: Path) -> None:
    seen = opened(browser, page, java_script_enabled=False)
    assert len(seen.texts(".headline .value")) == 5
    assert seen.page.locator("svg.marks").count() == 2 * len(METRICS) + 2
    assert "need JavaScript" in seen.page.locator("#answers").inner_text()
    assert json.loads(seen.page.locator("#answers-data").text_content())["of"] == 66
