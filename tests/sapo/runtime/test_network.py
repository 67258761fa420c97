"""Proxies and certificates that the environment names: refused by name where they would be used, else not."""

import os
import re
import ssl
from pathlib import Path

import certifi
import pytest

from networks import BROKEN, FAR, PASSWORD, no_network_settings
from sapo.runtime.errors import DataError
from sapo.runtime.network import BUNDLES, certificates, proxy_for, proxy_shown, suspects

VARIABLES = ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"]
AUTHORITY = ssl.get_default_verify_paths().openssl_cafile
LOCAL = [
    "http://localhost:8000/v1",
    "http://127.0.0.1:8000",
    "http://127.8.0.1",
    "http://[::1]:8000/v1",
    "http://a.localhost",
]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    no_network_settings(monkeypatch)


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("value", BROKEN)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match=rf"^{name}=.*(correct it, unset it|NO_PROXY)") as caught:
        proxy_for(FAR)
    assert PASSWORD not in str(caught.value)
    assert len(suspects()) == (0 if value.startswith("socks5") else 1)


@pytest.mark.parametrize("url", LOCAL)
@pytest.mark.parametrize("value", BROKEN)
def test_local_addresses_need_no_proxy(monkeypatch: pytest.MonkeyPatch, url: str, value: str) -> None:
    for name in ("ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, value)
    assert proxy_for(url) is None


@pytest.mark.parametrize(
    ("without", "url"),
    [
        ("*", FAR),
        ("example.com", FAR),
        (".example.com", FAR),
        ("other.org, api.example.com", FAR),
        ("10.0.0.0/8", "http://10.1.2.3/v1"),
        ("fd00::/8", "http://[fd00::7]:8000"),
        ("10.1.2.3", "http://10.1.2.3/v1"),
    ],
)
def test_addresses_of_no_proxy_need_none(monkeypatch: pytest.MonkeyPatch, without: str, url: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:7897/")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, without)
        assert proxy_for(url) is None
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "elsewhere.org,192.168.0.0/16")
    with pytest.raises(DataError, match="ALL_PROXY"):
        proxy_for(url)


def test_the_proxy_of_the_scheme_comes_first_lower_case_wins_and_empty_means_unset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks://no")
    monkeypatch.setenv("HTTPS_PROXY", "proxy:3128")
    assert proxy_for(FAR) == "http://proxy:3128"
    monkeypatch.setenv("https_proxy", "https://other")
    assert proxy_for(FAR) == "https://other"
    assert proxy_for("http://example.com", ("http_proxy", "https_proxy")) is None
    for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "")
    assert proxy_for(FAR) is None
    assert suspects() == []


def test_certificates_are_those_that_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert certificates() is None
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path / 'gone'}{os.pathsep}{tmp_path}")
    assert certificates() is not None
    if Path(AUTHORITY).is_file():
        monkeypatch.setenv("SSL_CERT_FILE", AUTHORITY)
        context = certificates()
        assert context is not None
        assert context.get_ca_certs()


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("kind", ["gone", "text", "empty", "folder"])
def test_certificates_that_are_none_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, kind: str
) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind != "gone":
        path.write_text("no certificate" if kind == "text" else "")
    monkeypatch.setenv(name, str(path))
    if (name, kind) == ("SSL_CERT_DIR", "folder"):
        assert certificates() is not None
        return
    with pytest.raises(
        DataError, match=rf"^{name}={re.escape(str(path))}: .*: name .* \(PEM.*, or unset it$"
    ):
        certificates()


@pytest.mark.parametrize("kind", ["missing folder", "folder"])
@pytest.mark.parametrize("others", ["good", "none"])
def test_a_key_log_that_cannot_be_written_is_named_and_no_certificates(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, others: str
) -> None:
    path = tmp_path if kind == "folder" else tmp_path / "gone" / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    for name in BUNDLES if others == "good" else ():
        monkeypatch.setenv(name, certifi.where())
    with pytest.raises(
        DataError, match=rf"^SSLKEYLOGFILE={re.escape(str(path))}: .*, or unset it$"
    ) as caught:
        certificates()
    assert suspects() == [str(caught.value)]
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert suspects() == []
    assert (certificates() is None) == (others == "none")


def test_the_proxy_of_an_address_is_shown_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_shown(FAR) == ""
    monkeypatch.setenv("ALL_PROXY", f"http://user:{PASSWORD}@proxy:3128")
    assert proxy_shown(FAR) == "ALL_PROXY=http://***@proxy:3128"
    assert proxy_shown("http://localhost:8000") == ""
    monkeypatch.setenv("https_proxy", "proxy:1")
    assert proxy_shown(FAR) == "https_proxy=proxy:1"
