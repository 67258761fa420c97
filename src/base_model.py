"""base_model: fetch or build the base model -> models/base/ (a model or pinned reference, and base.json)."""

from sapo.artifacts.base_model import BASE_FOLDER
from sapo.config import load_params
from sapo.runtime.command import run
from sapo.runtime.imports import quick_imports
from sapo.runtime.keys import HUB
from sapo.runtime.outputs import output_folder


def base_model() -> None:
    """Fetch or build the base model, and refuse one that the settings cannot use."""
    with quick_imports():
        from sapo.models.check import check_base
        from sapo.models.make import make_base

    params = load_params()
    with output_folder(BASE_FOLDER) as folder:
        make_base(params.model, folder)
        check_base(params, folder)


if __name__ == "__main__":
    run(base_model, HUB)
