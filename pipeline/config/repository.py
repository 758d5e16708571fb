"""A repository of the Hugging Face hub as people name it: owner/name, or the address of its page."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

_NAME = re.compile(r"(?:[\w.-]{1,96}/)?[\w.-]{1,96}")
_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co", "hf-mirror.com")


def is_repository(name: str) -> bool:
    """Whether the hub could have a repository of this name."""
    return bool(_NAME.fullmatch(name)) and ".." not in name


def repository_named(text: str) -> str:
    """`https://huggingface.co/owner/name/tree/main` is owner/name; every other text stays as it is."""
    address = text.strip()
    if "//" not in address and not address.startswith(tuple(f"{host}/" for host in _HOSTS)):
        return text
    parts = urlsplit(address if "//" in address else f"https://{address}")
    names = [unquote(name) for name in parts.path.split("/") if name]
    if parts.hostname not in _HOSTS or len(names) < 2 or names[0] in ("datasets", "spaces"):
        return text
    return f"{names[0]}/{names[1].removesuffix('.git')}"
