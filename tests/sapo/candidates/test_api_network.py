"""The endpoint is reached as the environment says: what is wrong there is named, where it is used."""

import socket
from pathlib import Path

import certifi
import pytest

from networks import BROKEN, FAR, PASSWORD, no_network_settings
from openai_server import HANG_UP, OpenAIServer, completion
from reviews import REVIEWS, fail, good, wanted
from sapo.candidates import endpoint as endpoints
from sapo.candidates.api import from_api


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    no_network_settings(monkeypatch)


def test_the_client_of_the_endpoint_reads_no_bad_variable_that_it_does_not_need(
    endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ALL_PROXY", "HTTP_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "socks://127.0.0.1:7897/")
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "/gone")
    assert from_api(REVIEWS, wanted(1))[0] == [good(0)]


@pytest.mark.parametrize("url", ["https://api.example.com/v1", ""])
@pytest.mark.parametrize("value", BROKEN)
def test_the_endpoint_names_the_proxy(
    endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch, url: str, value: str
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("ALL_PROXY", value)
    message = fail(wanted(1))
    assert message.startswith("ALL_PROXY=")
    assert PASSWORD not in message


def test_the_endpoint_names_the_certificates(
    endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", FAR)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    assert fail(wanted(1)).startswith(
        f"SSL_CERT_FILE={tmp_path / 'gone.pem'}: No such file or directory: name"
    )


@pytest.mark.parametrize("url", [FAR, "http://127.0.0.1:9/v1"])
@pytest.mark.parametrize("certificates", ["", certifi.where()])
def test_the_endpoint_names_the_key_log(
    endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, certificates: str
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "gone" / "keys"))
    monkeypatch.setenv("SSL_CERT_FILE", certificates)
    named = f"SSLKEYLOGFILE={tmp_path / 'gone' / 'keys'}: No such file or directory"
    assert fail(wanted(1)) == f"{named}: name a file that can be written, or unset it"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("user", ["", "u:hunter2@", f"user:{PASSWORD}@"])
def test_a_proxy_that_is_not_there_is_named(
    endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch, name: str, user: str
) -> None:
    monkeypatch.setattr(endpoints, "RETRIES", 0)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://model.example/v1")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # the port is taken, but nobody listens
        place = f"127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv(name, f"http://{user}{place}")
        message = fail(wanted(1))
    hidden = "***@" if user else ""
    assert f"Connection refused) through the proxy of {name}=http://{hidden}{place}). Check" in message
    assert "hunter2" not in message
    assert PASSWORD not in message


def test_a_proxy_that_is_not_used_is_not_named(
    endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "RETRIES", 0)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    endpoint.always(HANG_UP)
    message = fail(wanted(1))
    assert "no answer from the endpoint" in message
    assert "proxy" not in message.lower()


def test_a_proxy_that_works_is_used_and_its_password_is_in_no_error(
    endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://model.example/v1")
    monkeypatch.setenv("http_proxy", endpoint.address.replace("//", f"//user:{PASSWORD}@"))
    assert from_api(REVIEWS, wanted(1))[0] == [good(0)]
    assert endpoint.requests[0].path == "http://model.example/v1/chat/completions"
    assert endpoint.requests[0].headers["proxy-authorization"].startswith("Basic ")
    endpoint.always(completion(f"For the reader: positive or negative? My proxy is user:{PASSWORD}@there."))
    assert PASSWORD not in fail(wanted(2))
