"""The job file for KubeRay: its command is one of the grid's, and all pods see the same folder."""

import itertools
import shlex

import pytest

from laboratory import REPOSITORY
from sapo.grid.axes import cells
from sapo.runtime.files import read_yaml

SPEC = read_yaml(REPOSITORY / "tools/kubernetes/grid.yaml")["spec"]


def test_its_settings_make_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    command = shlex.split(shlex.split(SPEC["entrypoint"])[2])
    settings = [value for option, value in itertools.pairwise(command) if option == "-S"]
    assert len(cells(settings)) == 6
    assert command[:2] == ["cd", "/work/sapo"]


def test_its_ray_is_ours() -> None:
    assert (
        f"ray=={SPEC['rayClusterSpec']['rayVersion']}" in (REPOSITORY / "requirements-grid.txt").read_text()
    )


def test_all_pods_see_the_same_folder() -> None:
    cluster = SPEC["rayClusterSpec"]
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    assert len(pods) == 2
    for pod in pods:
        (volume,) = pod["volumes"]
        (container,) = pod["containers"]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/work"}]
    assert pods[0]["volumes"] == pods[1]["volumes"]
    assert pods[0]["containers"][0]["image"] == pods[1]["containers"][0]["image"]
