"""The documents as a site: `make docs`."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from laboratory import REPOSITORY

# Attributes whose address a browser fetches by itself
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}
STRUCTURE = ("h1", "h2", "h3", "li", "ol", "table", "td", "th", "img", "strong", "em")


class Page(HTMLParser):
    """What a browser fetches for a page, and how often each element is in its article."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.classes: set[str] = set()
        self.elements: Counter[str] = Counter()
        self.inside = "<article" not in text
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.inside = self.inside or tag == "article"
        self.elements[tag] += self.inside
        self.classes |= set((values.get("class") or "").split())
        if address := values.get(FETCHED.get(tag, "")):
            self.fetched.append(address)

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "article"


def build(repository: Path, site: Path) -> subprocess.CompletedProcess[str]:
    # Not --quiet: with it a link that leads nowhere passes
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    done = build(REPOSITORY, folder)
    assert done.returncode == 0, done.stderr
    return folder


def source(site: Path, page: Path) -> Path:
    name = page.relative_to(site)
    return REPOSITORY / (name.parent / "README.md" if name.stem == "index" else name.with_suffix(".md"))


def pages(site: Path) -> list[Path]:
    return [path for path in site.rglob("*.html") if path.name != "404.html"]


def test_every_page_of_the_index_is_there_in_its_order(site: Path) -> None:
    index = re.findall(r"^\| \[\w+\]\((\w+\.md)\)", (REPOSITORY / "docs/README.md").read_text(), re.MULTILINE)
    nav = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]
    [documentation] = [entry["Documentation"] for entry in nav if "Documentation" in entry]
    assert documentation == [f"docs/{name}" for name in ("README.md", *index)]
    assert {source(site, page) for page in pages(site)} >= {
        *REPOSITORY.glob("docs/*.md"),
        *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    }
    assert not list(site.rglob("*.py"))


def test_a_browser_fetches_nothing_from_elsewhere(site: Path) -> None:
    for path in [*pages(site), site / "404.html"]:
        page = Page(path.read_text(encoding="utf-8"))
        assert page.fetched
        assert [one for one in page.fetched if re.match(r"(\w+:)?//", one)] == [], path
        assert "mermaid" not in page.classes  # for these the theme's script would fetch one more
        for address in page.fetched:
            missing = address.partition("#")[0] and not (path.parent / address.partition("?")[0]).is_file()
            assert not missing or path.name == "404.html", f"{path}: {address}"
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(\w+:)?//", path.read_text(encoding="utf-8")), path


def test_a_page_has_the_structure_that_its_document_means(site: Path) -> None:
    """The site's Markdown is a dialect: a list that it takes for a paragraph is one that GitHub shows."""
    markdown = MarkdownIt("commonmark").enable("table")
    for path in pages(site):
        ours = Page(markdown.render(source(site, path).read_text(encoding="utf-8"))).elements
        theirs = Page(path.read_text(encoding="utf-8")).elements
        assert {name: theirs[name] for name in STRUCTURE} == {name: ours[name] for name in STRUCTURE}, path


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("[there](nowhere.md)", "nowhere.md"),
        ("[there](../src/nowhere.py)", "nowhere.py"),
        ("[there](data.md#no-such-heading)", "no-such-heading"),
    ],
)
def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path, link: str, message: str) -> None:
    for name in ("docs", "benchmarks", "results", "study"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("*.py[cod]", ".*"))
    for path in (*REPOSITORY.glob("*.md"), REPOSITORY / "mkdocs.yml"):
        shutil.copy(path, tmp_path)
    with (tmp_path / "docs/models.md").open("a", encoding="utf-8") as document:
        document.write(f"\n{link}\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert message in done.stderr
    assert "docs/models.md" in done.stderr
