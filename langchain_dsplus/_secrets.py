"""Addresses without their secrets: what is shown, hashed or written never carries a password that stood in a URL."""

from __future__ import annotations

import re

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s\"'<>`]+)")
_PORT = re.compile(r"(?:\[[^\]]*\]|[^:@]*)(?::[0-9]+)?")
_SECRET = re.compile(
    r"([?&#;](?:[\w.-]*(?:key|token|secret|passw|pwd|credential|signature|auth|session)[\w.-]*|sig|code)=)[^&#;]*",
    re.IGNORECASE,
)


def without_url_secrets(text: str, mark: str = "") -> str:
    """Return a text whose URLs have no user, no password, and no value of a parameter that is named like a secret.

    Example:
        >>> without_url_secrets("at https://me:pw@llm.example/v1?api_key=x&n=1")
        'at https://llm.example/v1?api_key=&n=1'
    """
    return _URL.sub(lambda found: _clean(found, mark), text) if "://" in text else text


def _clean(found: re.Match[str], mark: str) -> str:
    scheme, rest = found.groups()
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in host:
        cut = host.rindex("@")
    elif not _PORT.fullmatch(host) and "@" in rest:  # some readers of URLs take a password with a bare slash or `?`
        cut = rest.rindex("@")
    else:
        cut = -1
    user = f"{mark}@" if mark and cut >= 0 else ""
    return scheme + user + _SECRET.sub(lambda named: named[1] + mark, rest[cut + 1 :])
