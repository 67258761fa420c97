"""MkDocs: the site holds the documents where they lie in the repository, so that their links hold there too.

It is every page and picture that the README leads to, from link to link.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

START = "README.md"
LINK = re.compile(r"\]\(([^)#:]+)")  # one within the repository


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The theme's files as they are, and our documents by their paths in the repository."""
    root = Path(config.config_file_path).parent
    ours = config.docs_dir  # the theme may lie in the repository too, in .venv
    theme = [file for file in files if file.abs_src_path and not Path(file.abs_src_path).is_relative_to(ours)]
    return Files([*theme, *(document(config, root, name) for name in documents(root))])


def document(config: MkDocsConfig, root: Path, name: str) -> File:
    return File.generated(config, name, abs_src_path=str(root / name))


def documents(root: Path) -> list[str]:
    """The paths of all documents and pictures. A link to one that is missing is left to MkDocs to name."""
    found: dict[str, None] = {}
    todo = [START]
    while todo:
        name = todo.pop()
        if name in found or not (root / name).is_file():
            continue
        found[name] = None
        if name.endswith(".md"):
            links = LINK.findall((root / name).read_text(encoding="utf-8"))
            todo += [posixpath.normpath(posixpath.join(posixpath.dirname(name), link)) for link in links]
    return list(found)
