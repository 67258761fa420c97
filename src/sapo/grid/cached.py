"""Which stages need not run, because their results are in DVC's cache or kept by the grid.

DVC tells this of the stages of its workspace alone. Here it is told of any settings: stage by stage, the hash
of each dependency is that of the source, or of what an earlier stage's entry in the run-cache gives; both
together name the entry of the stage itself (`dvc.stage.cache` of DVC 3).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sapo.grid.kept import Kept, read_lock
from sapo.grid.pipeline import Stage, lock_of
from sapo.runtime.errors import DataError
from sapo.runtime.files import parse_yaml


class Cache:
    """DVC's cache of the repository that is the working folder, or a remote, and what the grid keeps."""

    def __init__(self, kept: Kept, remote: str = "", keep: bool = True) -> None:
        """keep: what lies in the workspace alone is kept, not only known."""
        from dvc.exceptions import DvcException
        from dvc.fs import LocalFileSystem
        from dvc.repo import Repo

        self.kept, self.keep = kept, keep
        self.repo = Repo()
        self.objects = self.repo.cache.local
        self.folder = Path(self.objects.path).parents[1]  # CACHE/files/md5
        self.runs = Path(self.repo.stage_cache.cache_dir)
        self.fs = LocalFileSystem()
        self.results = self.objects  # where those of finished stages are
        if remote:
            try:
                self.results = self.repo.cloud.get_remote_odb(remote)
                self.repo.stage_cache.pull(remote)
            except DvcException as error:
                raise DataError(f"--remote {remote}: {error}") from None
        self.sources: dict[str, str | None] = {}
        self.entries: dict[str, dict[str, Any] | None] = {}
        self.contents: dict[tuple[str, ...], str | None] = {}
        self.locks: dict[str, dict[str, Any]] = {}  # dvc.lock of the workspace, by file
        self.here = set[str]()  # stages whose outputs lie in the workspace alone

    def finished(self, stages: Mapping[str, Stage]) -> set[str]:
        """The keys of the stages whose results are there."""
        return {key for key, stage in stages.items() if self.entry(stage, stages)}

    def entry(self, stage: Stage, stages: Mapping[str, Stage]) -> dict[str, Any] | None:
        """What dvc.lock would say of the finished stage; None where it has to run."""
        if stage.key not in self.entries:
            self.entries[stage.key] = (
                self.run_entry(stage, stages) if stage.restored else self.kept.entry(stage)
            )
        return self.entries[stage.key]

    def adopt(self, stages: Mapping[str, Stage]) -> None:
        """Take over the outputs of these stages in the workspace that no cache holds."""
        here = Path.cwd()
        for stage in stages.values():
            if stage.restored or stage.key in self.here or self.kept.entry(stage):
                continue
            if stage.file not in self.locks:
                self.locks[stage.file] = read_lock(lock_of(here, stage.file))
            entry = self.locks[stage.file]["stages"].get(stage.name)
            known = self.known(stage, stages) if entry else None
            if not (entry and known) or known != {name: plain(entry.get(name, {})) for name in known}:
                continue
            there = {out["path"]: out["md5"] for out in entry["outs"]}
            if there == {path: self.now(path) for path in stage.outs}:
                if self.keep:
                    self.kept.put(here, [stage], own=False)
                self.entries[stage.key] = entry
                self.here |= set() if self.keep else {stage.key}

    def now(self, path: str) -> str | None:
        """The hash of what is there."""
        return value(self.build(Path(path))) if Path(path).exists() else None

    def known(self, stage: Stage, stages: Mapping[str, Stage]) -> dict[str, Any] | None:
        """What DVC tells a run of the stage by; None where a stage that it needs has to run."""
        deps = []
        for path in sorted({path for path, _ in stage.deps}):
            makers = [stages[key] for of, key in stage.deps if of == path and key]
            found = self.made(path, makers, stages) if makers else self.source(path)
            if found is None:
                return None
            deps.append({"path": path, "hash": "md5", "md5": found})
        settings = {"params": {"params.yaml": dict(stage.params)}} if stage.params else {}
        return {"cmd": stage.cmd, "deps": deps} | settings

    def run_entry(self, stage: Stage, stages: Mapping[str, Stage]) -> dict[str, Any] | None:
        from dvc.utils import dict_sha256

        known = self.known(stage, stages)
        if known is None:
            return None
        key = dict_sha256(known | {"outs": sorted(stage.outs)})
        entries = sorted((self.runs / key[:2] / key).glob("*"), key=lambda path: path.stat().st_mtime)
        if not entries:
            return None
        entry: dict[str, Any] = parse_yaml(entries[-1].read_text(encoding="utf-8"), str(entries[-1]))
        return entry if all(self.has(out["md5"]) for out in entry["outs"]) else None

    def source(self, path: str) -> str | None:
        if path not in self.sources:
            self.sources[path] = self.now(path)
        return self.sources[path]

    def build(self, path: Path, kept: bool = False) -> Any:
        """DVC's object of a file or folder that is there. What is kept lies where .dvcignore hides it."""
        from dvc_data.hashfile.build import build

        ignore = None if kept else self.repo.dvcignore
        return build(self.objects, str(path.absolute()), self.fs, "md5", dry_run=True, ignore=ignore)[2]

    def made(self, path: str, makers: list[Stage], stages: Mapping[str, Stage]) -> str | None:
        """The hash of a path that these stages make: an output, a part of one, or a folder with several."""
        parts: dict[tuple[str, ...], tuple[Any, Any]] = {}
        for maker in makers:
            entry = self.entry(maker, stages)
            if entry is None:
                return None
            for out in entry["outs"]:
                if out["path"] == path:
                    found: str = out["md5"]
                    return found
                if path.startswith(f"{out['path']}/"):
                    below = tuple(path[len(out["path"]) + 1 :].split("/"))
                    inside = [
                        (key, meta, hash_) for key, meta, hash_ in self.tree(maker, out) if starts(key, below)
                    ]
                    if len(inside) == 1 and inside[0][0] == below:
                        file: str = inside[0][2].value
                        return file
                    parts |= {key[len(below) :]: (meta, hash_) for key, meta, hash_ in inside}
                elif out["path"].startswith(f"{path}/"):
                    above = tuple(out["path"][len(path) + 1 :].split("/"))
                    if out["md5"].endswith(".dir"):
                        parts |= {(*above, *key): (meta, hash_) for key, meta, hash_ in self.tree(maker, out)}
                    else:
                        parts[above] = (None, hash_info(out["md5"]))
        return tree_hash(parts)

    def content(self, path: str, makers: Sequence[Stage]) -> str | None:
        """The hash of what these stages make there, where they need no other stage and are finished."""
        if any(maker.needs for maker in makers):
            return None
        known = (path, *(maker.key for maker in makers))
        if known not in self.contents:
            self.adopt({maker.key: maker for maker in makers if maker.key not in self.entries})
            self.contents[known] = self.made(path, list(makers), {})
        return self.contents[known]

    def forget_unfinished(self) -> None:
        """Look anew for what was not there: units have ended since. Files of the repository stay as seen."""
        self.entries = {key: entry for key, entry in self.entries.items() if entry}
        self.contents = {key: found for key, found in self.contents.items() if found}

    def tree(self, maker: Stage, out: Mapping[str, Any]) -> Any:
        from dvc_data.hashfile.tree import Tree

        if maker.restored:
            return Tree.load(self.results, hash_info(out["md5"]))
        if maker.key in self.here:
            return self.build(Path(out["path"]))
        return self.build(self.kept.output(maker, out["path"]), kept=True)

    def has(self, md5: str) -> bool:
        if not self.results.exists(md5):
            return False
        if not md5.endswith(".dir"):
            return True
        from dvc_data.hashfile.tree import Tree

        tree = Tree.load(self.results, hash_info(md5))
        return all(self.results.exists(hash_.value) for _, _, hash_ in tree)


def plain(content: Any) -> Any:
    """An entry of dvc.lock without sizes, which tell no run from another; dependencies by path."""
    if not isinstance(content, list):
        return content
    kept = [{name: dep[name] for name in ("path", "hash", "md5") if name in dep} for dep in content]
    return sorted(kept, key=lambda dep: dep["path"])


def starts(key: tuple[str, ...], below: tuple[str, ...]) -> bool:
    return key[: len(below)] == below


def hash_info(md5: str) -> Any:
    from dvc_data.hashfile.hash_info import HashInfo

    return HashInfo("md5", md5)


def value(made: Any) -> str:
    found: str = made.hash_info.value
    return found


def tree_hash(parts: Mapping[tuple[str, ...], tuple[Any, Any]]) -> str:
    from dvc_data.hashfile.tree import Tree

    tree = Tree()
    for key, (meta, hash_) in parts.items():
        tree.add(key, meta, hash_)
    tree.digest()
    return value(tree)
