"""base_model: fetch or build the base model -> models/base/ (a Hugging Face folder, or a pinned reference, and base.json)."""

from pathlib import Path

from sapo.environment import HUB
from sapo.files import output_folder
from sapo.models import make_base
from sapo.params import load_params
from sapo.stage import run


def base_model() -> None:
    params = load_params()
    with output_folder(Path("models/base")) as folder:
        make_base(params.model, folder, params.seed)


if __name__ == "__main__":
    run(base_model, HUB)
