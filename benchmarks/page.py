"""How long does a filter or a search on a run's page take, from the event to the frame that shows its result?

    python benchmarks/page.py                          # after a run: plots/report.html, made larger
    python benchmarks/page.py --answers 10000 --length 100 --repeats 20

The page is the run's own, with made-up answers of --length characters in place of its own: --answers of them
(test rows x stages), all different, and as many texts. Chromium and playwright must be installed. Prints
milliseconds: median and most. Under 200 a person notices no delay that would be worth a bar or a spinner.
"""

import argparse
import json
import random
import shutil
import string
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import sync_playwright

DATA = 'id="answers-data">'
ACTIONS = {  # what a person does: the control, its value, the event
    "filter: forgotten": ('input[name="state"][value="forgotten"]', None, "change"),
    "filter: all": ('input[name="state"][value=""]', None, "change"),
    "one task": ("#task", "1", "change"),
    "all tasks": ("#task", "", "change"),
    "search: one letter, in every row": ("#search", "e", "input"),
    "search: three letters, in few rows": ("#search", "qzx", "input"),
    "search: nothing more": ("#search", "", "input"),
    "order: largest fall first": ("#order", "fall", "change"),
}
TIMED = """async ([selector, value, event]) => {
  const control = document.querySelector(selector);
  const begun = performance.now();
  if (value === null) control.checked = true; else control.value = value;
  control.dispatchEvent(new Event(event));
  await new Promise((shown) => requestAnimationFrame(() => setTimeout(shown)));
  return performance.now() - begun;
}"""


def larger(page: str, answers: int, length: int) -> str:
    """The page with so many made-up answers."""
    before, _, rest = page.partition(DATA)
    data, end, after = rest.partition("</script>")
    content = json.loads(data)
    chance = random.Random(0)
    stages, states = len(content["stages"]), ["forgotten", "kept", "never learned"]
    letters = string.ascii_lowercase + " "
    texts: list[str] = []

    def text() -> int:
        texts.append("".join(chance.choices(letters, k=length)))
        return len(texts) - 1

    def row(number: int) -> list[Any]:
        given = [[text(), *(chance.choice([0, 100]) for _ in content["metrics"])] for _ in range(stages)]
        return [number % len(content["tasks"]), number, states[number % 3], text(), [text()], given]

    content["rows"] = [row(number) for number in range(-(-answers // stages))]
    content |= {"texts": texts, "of": len(content["rows"])}
    return before + DATA + json.dumps(content, separators=(",", ":")) + end + after


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", type=Path, default=Path("plots/report.html"))
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("error: Chromium is not installed: apt-get install chromium")
    if not options.page.is_file():
        sys.exit(f"error: {options.page} is missing: `dvc repro` writes it")
    text = larger(options.page.read_text(encoding="utf-8"), options.answers, options.length)
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        path.write_text(text, encoding="utf-8")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(path.as_uri())
        about = (
            f"{options.answers} answers of {options.length} characters, {path.stat().st_size / 1e6:.1f} MB"
        )
        print(f"Chromium {browser.version}; {about}; milliseconds, median and most of {options.repeats}")
        times: dict[str, list[float]] = {name: [] for name in ACTIONS}
        for _ in range(options.repeats):
            for name, action in ACTIONS.items():
                times[name].append(page.evaluate(TIMED, list(action)))
        for name, taken in times.items():
            print(f"{name:36} {median(taken):6.0f} {max(taken):6.0f}")
        print(page.locator("#shown").inner_text())
        browser.close()


if __name__ == "__main__":
    main()
