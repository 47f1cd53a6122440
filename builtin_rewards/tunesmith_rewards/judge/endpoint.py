"""Asking an OpenAI-compatible endpoint: again where that may help, never for longer than there is time."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from tunesmith import Fault

MAX_REPLY = 1_000_000
PASSING = (408, 409, 425, 429)
"""With 5xx, the HTTP errors that asking again may mend."""
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask and how often.

    Attributes:
        base_url: the address up to ``/chat/completions``.
        key: sent as a bearer token; empty for none. It shows up in no message.
        retries: further attempts after one that failed.
        backoff: seconds before the second attempt, doubled with each.
        request_timeout: seconds that one attempt may take.
    """

    base_url: str
    key: str = field(repr=False)
    retries: int
    backoff: float
    request_timeout: float

    def ask(self, body: Mapping[str, Any], deadline: float) -> str | Fault:
        """What the model says, after as many attempts as there are and time allows (``time.monotonic``)."""
        data = json.dumps(body).encode()
        why, attempt = "there was no time to ask", 0
        for attempt in range(self.retries + 1):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            outcome = self._request(data, min(self.request_timeout, left))
            if isinstance(outcome, (str, Fault)):
                return outcome
            why, asked_for = outcome
            wait = max(asked_for, self.backoff * 2**attempt * random.uniform(0.75, 1.25))
            if attempt == self.retries or time.monotonic() + wait >= deadline:
                break
            time.sleep(wait)
        return Fault("infrastructure", f"{self.base_url} gave no answer in {attempt + 1} attempts: {why}")

    def _request(self, data: bytes, seconds: float) -> str | Fault | tuple[str, float]:
        """The reply; a fault that asking again would not mend; or what went wrong and the seconds to wait."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = Request(f"{self.base_url.rstrip('/')}/chat/completions", data=data, headers=headers)
        end = time.monotonic() + seconds
        try:
            with _opener().open(request, timeout=seconds) as response:
                return _content(_read_all(response, end))
        except HTTPError as error:
            with error:
                return self._refused(error, end)
        except URLError as error:
            return f"{error.reason}"[:200], 0.0
        except (OSError, HTTPException, ValueError) as error:
            return f"{type(error).__name__}: {error}"[:200], 0.0

    def _refused(self, error: HTTPError, end: float) -> Fault | tuple[str, float]:
        """A fault for an HTTP error that will not pass; else what it was and the seconds that the server asks for."""
        try:
            said = _read_all(error, end).decode("utf-8", "replace")
        except (OSError, HTTPException, ValueError):
            said = ""
        said = said.replace(self.key, "(key)") if self.key else said  # some servers repeat a wrong one
        why = f"HTTP {error.code} {' '.join(CONTROL.sub(' ', said).split())[:200]}".rstrip()
        if error.code in PASSING or error.code >= 500:
            after = error.headers.get("Retry-After", "")
            return why, float(after) if re.fullmatch(r"\d{1,5}(\.\d{1,3})?", after) else 0.0
        return Fault("infrastructure", f"{self.base_url} refused: {why}")


class _Stay(HTTPRedirectHandler):
    """Follows no redirect: the key would go with it."""

    def redirect_request(self, *_: Any) -> None:
        return None


@lru_cache(maxsize=1)
def _opener() -> OpenerDirector:
    return build_opener(_Stay)


def _read_all(response: Any, end: float) -> bytes:
    """The body. Raises `TimeoutError` past ``end``, which a server that drips could delay for ever, and `ValueError`
    for one that is too long.
    """
    parts, size = [], 0
    while part := response.read1(65536):
        parts.append(part)
        size += len(part)
        if size > MAX_REPLY:
            raise ValueError(f"the reply is longer than {MAX_REPLY} bytes")
        if time.monotonic() > end:
            raise TimeoutError("the reply took too long")
    return b"".join(parts)


def _content(body: bytes) -> str:
    """What the model said. Raises `ValueError` for something else than a chat completion."""
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError, RecursionError):
        raise ValueError("the reply is no chat completion") from None
    if not isinstance(content, str):
        raise ValueError("the reply holds no text")
    return content
