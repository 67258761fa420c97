"""An OpenAI-compatible server: one question, one text, with the repeats that faults of the network need."""

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sapo.candidates.answer import BusyError, FinalError, NoTextError, failure, read_answer, shown
from sapo.candidates.pace import PATIENCE, ImpatientError, Pace, wanted_wait
from sapo.runtime.errors import DataError
from sapo.runtime.keys import masked
from sapo.runtime.network import certificates, check_key_log, proxy_for, proxy_shown

if TYPE_CHECKING:
    from openai import OpenAI

    from sapo.config import Paraphrase

# Repeats of a request that a fault of the moment left unanswered; seconds for one (a local model is slow)
RETRIES, TIMEOUT = 4, 600.0
PAUSE, LONGEST = 0.5, 8.0  # seconds before the first repeat, each further one after twice as long
HEADERS = ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")  # the client sends them as they are
OPENAI_URL = "https://api.openai.com/v1"  # where the client goes without an address


class EndedError(Exception):
    """Another worker has ended all."""


def connect() -> "OpenAI":
    """A client with the key and address of the environment.

    Raises DataError that names the variable of the environment that cannot be used.
    """
    key, url = os.environ.get("OPENAI_API_KEY", ""), os.environ.get("OPENAI_BASE_URL", "")
    if not key:
        raise DataError(
            "paraphrase.source=api needs OPENAI_API_KEY in the environment (and OPENAI_BASE_URL for a server "
            "other than OpenAI's; a local one takes any key); paraphrase.source=bank needs neither"
        )
    for name in HEADERS:
        value = os.environ.get(name, "")
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise DataError(f"{name} holds characters that none has (quotes or spaces from a paste?)")
    try:
        address = urlsplit(url or OPENAI_URL)
        usable = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:
        usable = False
    if not usable:  # not shown: it may hold a password
        raise DataError("OPENAI_BASE_URL is not an address such as https://host:port/v1")
    proxy = proxy_for(url or OPENAI_URL)
    encrypted = address.scheme == "https" or (proxy or "").startswith("https:")
    check_key_log()  # read even where nothing is encrypted
    trusted = certificates() if encrypted else None

    from openai import DefaultHttpxClient, OpenAI

    # The environment has been read: the client itself would fail at a variable that it does not even need
    http = DefaultHttpxClient(proxy=proxy, verify=trusted or True, trust_env=False, timeout=TIMEOUT)
    return OpenAI(base_url=url or OPENAI_URL, api_key=key, max_retries=0, timeout=TIMEOUT, http_client=http)


class Endpoint:
    """Asks one question after another, from any thread.

    tell: told why all wait, and an empty text when they go on.
    """

    def __init__(self, client: "OpenAI", settings: "Paraphrase", tell: Callable[[str], None]) -> None:
        self.client, self.settings = client, settings
        self.pace = Pace(settings.concurrency, tell)

    def ask(self, question: str) -> str:
        """The text of the answer.

        Raises NoTextError where there is none and another question may help, FinalError where nothing will,
        EndedError when another worker met such an error.
        """
        faults = 0
        while (pauses := self.pace.begin()) is not None:
            try:
                text = self._send(question)
            except BusyError as error:
                self._wait(pauses, error)
            except _PassingError as error:
                self.pace.gave_up()
                faults += 1
                if faults > RETRIES or (error.wait or 0.0) > PATIENCE:
                    raise FinalError(str(error)) from None
                self.pace.sleep(max(error.wait or 0.0, min(PAUSE * 2 ** (faults - 1), LONGEST)))
            except NoTextError:
                self.pace.answered()
                raise
            except BaseException:
                self.pace.gave_up()
                raise
            else:
                self.pace.answered()
                return text
        raise EndedError

    def _wait(self, pauses: int, error: BusyError) -> None:
        overloaded = re.search(r"status 5|overload", str(error), re.IGNORECASE)
        why = "server overloaded" if overloaded else "rate limit"
        try:
            self.pace.refused(pauses, why, error.wait)
        except ImpatientError as enough:
            raise FinalError(
                f"{why}, {enough}; {error}",
                f"Lower paraphrase.concurrency (now {self.settings.concurrency}), or wait",
            ) from None

    def _send(self, question: str) -> str:
        import openai

        try:
            answer = self.client.chat.completions.with_raw_response.create(
                model=self.settings.model,
                messages=[{"role": "user", "content": question}],
                temperature=self.settings.temperature,
            ).http_response
        except openai.APIStatusError as error:
            wait = wanted_wait(error.response.headers)
            body = error.body if isinstance(error.body, dict) else error.message
            told = failure(error.status_code, body, wait)
            raise told or _PassingError(shown(body, error.status_code), wait) from None
        except openai.APIError as error:
            cause = f" ({error.__cause__})" if str(error.__cause__ or "") else ""
            proxy = proxy_shown(str(self.client.base_url))
            through = f" through the proxy of {proxy}" if proxy else ""
            raise _PassingError(masked(f"{error.message}{cause}{through}")) from None
        return read_answer(answer.content, answer.headers.get("content-type", ""))


class _PassingError(Exception):
    """A fault of the moment. wait: seconds after which the server wants to be asked again."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait
