"""What is recorded of the libraries."""

from importlib.metadata import version

from sapo.artifacts.versions import versions


def test_versions_name_the_libraries_that_numbers_depend_on() -> None:
    found = versions()
    assert found.keys() >= {"python", "torch", "transformers", "peft"}
    assert found["torch"] == version("torch")
