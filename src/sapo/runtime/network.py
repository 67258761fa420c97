"""Proxies and certificates that the environment names, checked before a library reads them."""

import ipaddress
import os
import ssl
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from sapo.runtime.errors import DataError
from sapo.runtime.keys import PROXIES, split_address

BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


def proxy_for(
    url: str, variables: Collection[str] = PROXIES, schemes: Collection[str] = ("http", "https")
) -> str | None:
    """The proxy through which the environment wants `url` to be reached; None without one.

    Local addresses and those of NO_PROXY are reached directly. variables: those that the library in question
    reads. Raises DataError that names the variable for a proxy that cannot be used, or is of no scheme in
    `schemes`.
    """
    name = _proxy_variable(url, variables)
    return _checked(name, schemes) if name else None


def proxy_shown(url: str) -> str:
    """NAME=ADDRESS of the variable whose proxy `url` is reached through, without its password; or empty."""
    name = _proxy_variable(url, PROXIES)
    return f"{name}={without_password(os.environ[name].strip())}" if name else ""


def _proxy_variable(url: str, variables: Collection[str]) -> str | None:
    address = urlsplit(url)
    for variable in (f"{address.scheme}_proxy", "all_proxy"):
        name = _name(variable)
        if variable in variables and name:
            return None if is_local(url) or _is_exempt(address.hostname or "") else name
    return None


def proxies() -> list[str]:
    """The variables of the environment that name a proxy."""
    return [name for variable in PROXIES if (name := _name(variable))]


def is_local(url: str) -> bool:
    """Whether the address is one of this machine, which no proxy can reach."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _name(variable: str) -> str | None:
    """The name under which the variable is set: in lower case, which wins, or in capitals."""
    found = variable if variable in os.environ else variable.upper()
    return found if os.environ.get(found, "").strip() else None


def _is_exempt(host: str) -> bool:
    """Whether NO_PROXY names the host, or a network that its number is in."""
    name = _name("no_proxy")
    for entry in os.environ[name].split(",") if name else []:
        with suppress(ValueError):  # of names, not numbers
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip(), strict=False):
                return True
    return bool(proxy_bypass(host))


def _checked(name: str, schemes: Collection[str]) -> str:
    value = os.environ[name].strip()
    proxy = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(proxy)
        port, host = parts.port, parts.hostname
    except ValueError:
        port, host = None, None
    fault = ""
    if not host or port == 0 or any(c.isspace() for c in proxy):
        fault = "that is no address such as http://host:port"
    elif parts.scheme not in schemes:
        fault = f"a proxy of the kind {parts.scheme!r} cannot be used here, only {' or '.join(schemes)}"
    if fault:
        raise DataError(
            f"{name}={without_password(value)}: {fault}: correct it, unset it, "
            "or name the address that needs no proxy in NO_PROXY"
        )
    return proxy


def without_password(proxy: str) -> str:
    """The address with *** in place of what stands before an @, user and password."""
    scheme, user, place = split_address(proxy)
    return f"{scheme}***@{place}" if user else proxy


def certificates() -> ssl.SSLContext | None:
    """The certificates that SSL_CERT_FILE or else SSL_CERT_DIR names; None where neither is set.

    Raises DataError that names the variable when there is no certificate, or for SSLKEYLOGFILE.
    """
    check_key_log()
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if path := os.environ.get(name):
            if fault := certificate_fault(name):
                raise DataError(fault)
            one_file = name == "SSL_CERT_FILE"
            return ssl.create_default_context(
                cafile=path if one_file else None, capath=None if one_file else path
            )
    return None


def certificate_fault(name: str) -> str:
    """What is wrong with the certificates that the variable names, and what to do; empty if nothing."""
    path = os.environ.get(name, "")
    folders = path.split(os.pathsep)
    if not path or (name != "SSL_CERT_FILE" and any(Path(one).is_dir() for one in folders)):
        return ""
    try:
        if name == "SSL_CERT_DIR":
            raise FileNotFoundError(2, os.strerror(2))
        # create_default_context would read SSLKEYLOGFILE, too, whose fault is another
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (OSError, ValueError) as error:
        why = (
            "it holds no certificate"
            if isinstance(error, ssl.SSLError)
            else getattr(error, "strerror", error)
        )
        return f"{name}={path}: {why}: name a file of certificates (PEM), or unset it"
    return ""


def check_key_log() -> None:
    """Raise DataError for an SSLKEYLOGFILE that cannot be written: every TLS context of Python opens it."""
    if path := os.environ.get("SSLKEYLOGFILE"):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).keylog_filename = path
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise DataError(
                f"SSLKEYLOGFILE={path}: {why}: name a file that can be written, or unset it"
            ) from None


def suspects() -> list[str]:
    """What is wrong with proxies and certificates, for programs whose own message does not tell."""
    found = [fault for name in BUNDLES if (fault := certificate_fault(name))]
    try:
        check_key_log()
    except DataError as error:
        found.append(str(error))
    for name in proxies():
        try:
            _checked(name, ("http", "https", "socks4", "socks5", "socks5h"))
        except DataError as error:
            found.append(str(error))
    return found
