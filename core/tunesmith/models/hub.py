"""Whether a name can be a model of the hub, found out in seconds: the libraries' own attempts take half a minute."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from tunesmith.errors import ResourceError, nearest

PATIENCE_S = 5.0
"""Seconds to wait for the hub's address."""
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def check_reachable(name: str, what: str) -> None:
    """Raises `ResourceError` where a name is no folder, no copy of it is on this machine, and the hub does not answer.

    Nothing is asked where that is decided already: the hub is not to be asked (``HF_HUB_OFFLINE``), or a proxy stands
    between. Whether the hub has the model is for the libraries to find out.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    told = os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("0", "", "false", "no", "off")
    if constants.HF_HUB_OFFLINE or told or any(os.environ.get(key) for key in PROXIES):
        return
    try:
        if any(isinstance(try_to_load_from_cache(name, file), str) for file in ("config.json", "adapter_config.json")):
            return
    except ValueError:  # not written like the name of a model of the hub; the libraries say why
        return
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), PATIENCE_S).close()
    except OSError as error:
        similar = nearest(name, sorted(path.name for path in Path.cwd().iterdir()))
        raise ResourceError(
            f"there is no {what} {name!r} on this machine, and {constants.ENDPOINT} cannot be reached",
            why=str(error),
            fix=f"did you mean ./{similar}?" if similar else "give the path of a folder, or try again with a network",
        ) from None
