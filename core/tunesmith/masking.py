"""Access tokens do not leave the machine by way of messages, logs and pages."""

from __future__ import annotations

import os
import re

_SECRET_NAMES = re.compile(r"(^|_)(TOKENS?|SECRETS?|PASSWORD|(API|ACCESS)_?KEY|CREDENTIALS?)(_|$)", re.IGNORECASE)
_SECRETS = re.compile(r"\b(hf_|sk-|ghp_|xox[abp]-)[A-Za-z0-9_-]{8,}")


def mask(text: str) -> str:
    """The text without access tokens: those that look like one, and the values of variables named like one."""
    text = _SECRETS.sub(lambda match: f"{match[1]}***", text)
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_NAMES.search(name):
            text = text.replace(value, "***")
    return text
