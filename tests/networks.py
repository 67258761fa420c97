"""An environment that names proxies and certificates which cannot be used."""

import pytest

FAR = "https://api.example.com/v1"
PASSWORD = "pa55-w0rd-canary"  # pragma: allowlist secret
BROKEN = [
    "socks://127.0.0.1:7897/",
    "socks5://127.0.0.1:1080",
    "socks4a://proxy",
    "ftp://proxy:21",
    "http://proxy:port",
    "http://proxy:99999",
    "http://proxy:0",
    "http://",
    "http://[::1",
    "http://my proxy:3128",
    f"socks://user:{PASSWORD}@127.0.0.1:7897",
    f"http://user:{PASSWORD}@proxy:80x",
]


def no_network_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no certificates in the environment."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
