"""Downloads go as the environment says: what is wrong there is named, where it is used."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from networks import BROKEN, PASSWORD, no_network_settings
from openai_server import OpenAIServer, refusal
from sapo.data import download
from sapo.data.catalog import Blob
from sapo.data.download import fetch
from sapo.data.wheels import Wheel, fetch_wheel
from sapo.runtime.errors import DataError


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    no_network_settings(monkeypatch)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    """Says of every file that it is not there, also as a proxy."""
    with OpenAIServer(lambda request: refusal(404)) as server:
        yield server


@pytest.mark.parametrize("value", [value for value in BROKEN if not value.startswith("socks5")])
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
def test_a_download_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    monkeypatch.setenv("SAPO_CACHE", str(tmp_path))
    monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match=f"^{name}=") as caught:
        fetch("http://files.example", [Blob("a.json", "0" * 40, 3)])
    assert PASSWORD not in str(caught.value)


def test_a_download_names_the_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAPO_CACHE", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    with pytest.raises(DataError, match=r"^SSL_CERT_FILE=.*gone\.pem: No such file"):
        fetch("https://files.example", [Blob("a.json", "0" * 40, 3)])


def test_a_download_goes_through_the_proxy_and_a_local_one_does_not(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setenv("SAPO_CACHE", str(tmp_path))
    monkeypatch.setenv("http_proxy", server.address.replace("//", f"//user:{PASSWORD}@"))
    with pytest.raises(DataError, match=r"data\.url") as caught:
        fetch("http://files.example", [Blob("a.json", "0" * 40, 3)])
    assert server.requests[0].path == "http://files.example/a.json"
    assert PASSWORD not in str(caught.value)
    server.forget()
    monkeypatch.setenv("http_proxy", "socks://127.0.0.1:1")
    with pytest.raises(DataError, match=r"data\.url"):
        fetch(server.address, [Blob("a.json", "0" * 40, 3)])
    assert server.requests[0].path == "/a.json"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", f"socks://user:{PASSWORD}@127.0.0.1:1"),
        ("HTTPS_PROXY", f"http://user:{PASSWORD}@127.0.0.1:port"),
        ("SSL_CERT_FILE", "/gone/a.pem"),
        ("REQUESTS_CA_BUNDLE", "/gone/a.pem"),
        ("PIP_CERT", "/gone/a.pem"),
    ],
)
def test_what_stops_pip_is_named_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")  # nobody there, should pip get so far
    monkeypatch.setenv("SAPO_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match=rf"^pip could not fetch nothing==1 \({name}=") as caught:
        fetch_wheel(Wheel("nothing==1", "0" * 64))
    assert PASSWORD not in str(caught.value)
    assert "Traceback" not in str(caught.value)
