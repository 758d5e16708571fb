"""What the hub and the network answer, as errors of ours, each with the next thing to do."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.base_model.catalogue import HUB, how_to_get_access
from pipeline.base_model.hub_cache import has_token, hub_cache
from pipeline.common.errors import BadInput, EnvironmentFault, HumigenceError
from pipeline.hub.repository import Repository, bad_name
from pipeline.system.disk import is_full

RETRY = "try again: what was fetched is kept"
# A model is a repository to who asks for one; of a data set it is said, since a model may have the name.
_WHAT = {"model": "repository", "dataset": "data set"}
TOKENS = f"{HUB}/settings/tokens"
_TITLE = re.compile(r"<title[^>]*>\s*([^<]{1,80})", re.IGNORECASE)


class NotTheHub(Exception):
    """A page came where the hub's answer was expected."""


class CutShort(ConnectionError):
    """A connection ended before the file did."""


@contextmanager
def translate_hub_errors(repository: Repository) -> Iterator[None]:
    """Whatever the hub's client raises inside, as one of ours.

    Raises:
        BadInput: a name, a revision, a token or a licence: the person can mend it.
        EnvironmentFault: the network, the hub, the disk.
    """
    from huggingface_hub import errors as hub

    # The exception family of whatever HTTP library this huggingface_hub uses (requests, httpx, …).
    transport: type[Exception] = hub.HTTPError  # type: ignore[attr-defined]
    try:
        yield
    except HumigenceError:
        raise
    except hub.HFValidationError as error:
        raise bad_name(repository) from error
    except hub.HfHubHTTPError as error:
        raise _refusal(error, repository) from error
    except hub.LocalEntryNotFoundError as error:
        cause = error.__cause__
        raise (
            _refusal(cause, repository) if isinstance(cause, hub.HfHubHTTPError) else _no_connection(error, repository)
        ) from error
    except UnicodeEncodeError as error:
        raise _bad_token() from error
    except (NotTheHub, ValueError) as error:  # the client reads JSON out of what it takes for the hub's answer
        raise _a_page(repository.name, str(error) if isinstance(error, NotTheHub) else "") from error
    except (transport, TimeoutError, ConnectionError) as error:
        raise _no_connection(error, repository) from error
    except OSError as error:
        raise _disk(error, repository.name) from error


def _refusal(error: Any, repository: Repository) -> HumigenceError:
    """An HTTP status of 400 and above. `error` is an `HfHubHTTPError`."""
    from huggingface_hub import errors as hub

    repo, section = repository.name, repository.section
    response = error.response
    status = response.status_code
    if _is_page(response) and status < 500 and "x-error-code" not in response.headers:
        return _a_page(repo, title_of(response.text), status)
    if isinstance(error, hub.GatedRepoError):
        return _gated(repository, status, str(error.server_message or ""))
    if isinstance(error, hub.DisabledRepoError):
        return BadInput(f"{section}.repo: the hub has switched {repo} off", f"choose another {section}.repo")
    if isinstance(error, hub.RevisionNotFoundError):
        hint = f"humigence config set {section}.revision null  takes the main branch"
        return BadInput(f"{section}.revision: {repo} has no revision {repository.revision!r}", hint)
    if isinstance(error, hub.RepositoryNotFoundError):
        hint = "check the spelling (owner/name); for a private repository set HF_TOKEN"
        return BadInput(f"{section}.repo: the hub has no {_WHAT[repository.kind]} {repo}, or it is private", hint)
    if status == 401:
        return _bad_token()
    if status == 403:
        hint = f"give HF_TOKEN read access to it at {TOKENS}"
        return BadInput(f"{section}.repo: HF_TOKEN does not open {repo}: {first_line(error)}", hint)
    if status == 407:
        return _proxy_wants_a_password()
    if status == 429:
        hint = "wait a few minutes, then try again: what was fetched is kept; with HF_TOKEN set the hub allows more"
        return EnvironmentFault(f"the hub refuses {repo} for now: too many requests from here", hint)
    return EnvironmentFault(
        f"the hub failed on {repo}: {first_line(error)}", f"https://status.huggingface.co tells more; {RETRY}"
    )


def _gated(repository: Repository, status: int, server_message: str) -> BadInput:
    """By the hub's own words where it has some: its status is 403 for each of these, 401 without a token."""
    repo, key = repository.name, f"{repository.section}.repo"
    page = f"{HUB}/{repository.path}"
    if status == 401 and not has_token():
        return is_gated(repository)
    words = server_message.lower()
    if "review" in words:
        return BadInput(f"{key}: access to {repo} is still in review by its authors", f"{page} tells when it is granted")
    if "reject" in words:
        return BadInput(f"{key}: the authors of {repo} have refused access", f"choose another {key}")
    if "fine-grained" in words:
        hint = f"at {TOKENS} give the token read access to public gated repositories, or make one of type Read"
        return BadInput(f"{key}: HF_TOKEN may not read gated repositories", hint)
    hint = f"accept it at {page} with the account the token belongs to"
    return BadInput(f"{key}: the licence of {repo} is not accepted by HF_TOKEN's account", hint)


def is_gated(repository: Repository) -> BadInput:
    """What to say of a gated repository where there is no token."""
    return BadInput(f"{repository.section}.repo: {repository.name} is gated", how_to_get_access(repository.path))


def _bad_token() -> BadInput:
    hint = f"make a new one at {TOKENS} and set HF_TOKEN, or unset it: open models need none"
    return BadInput("HF_TOKEN (or what hf auth login saved) is not a token the hub knows", hint)


def _proxy_wants_a_password() -> EnvironmentFault:
    return EnvironmentFault("the proxy asks for a password", "put it into HTTPS_PROXY: http://NAME:PASSWORD@PROXY:PORT")


def _a_page(repo: str, title: str, status: int = 200) -> EnvironmentFault:
    named = f" ({title})" if title else ""
    hint = "open the hub in a browser on this machine; a proxy or a login page is in between (HTTPS_PROXY, HF_ENDPOINT)"
    return EnvironmentFault(f"a web page{named} came instead of the hub's answer for {repo} (status {status})", hint)


def _no_connection(error: Exception, repository: Repository) -> EnvironmentFault:
    why, repo = first_line(error), repository.name
    if isinstance(error, CutShort):
        return EnvironmentFault(f"the download of {repo} is cut off again and again: {why}", f"check the network, then {RETRY}")
    if "CERTIFICATE_VERIFY_FAILED" in str(error) or "certificate" in why.lower():
        hint = "set SSL_CERT_FILE to your company's CA bundle; a wrong clock (date) does this too"
        return EnvironmentFault(f"the hub's certificate is not trusted: {why}", hint)
    if type(error).__name__ == "ProxyError":
        return EnvironmentFault(f"the proxy refuses the connection to the hub: {why}", "check HTTPS_PROXY and NO_PROXY")
    hint = f"check the network, then {RETRY}; or {repository.instead}"
    return EnvironmentFault(f"no connection to the hub for {repo}: {why}", hint)


def _disk(error: OSError, repo: str) -> EnvironmentFault:
    if is_full(error):
        return EnvironmentFault(f"the disk is full at {hub_cache()}", "make room, or set HF_HOME to another disk; then go on")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return EnvironmentFault(f"the hub cache {hub_cache()} cannot be written to", "set HF_HOME to a folder of yours")
    return EnvironmentFault(f"downloading {repo} failed: {first_line(error)}", RETRY)


def _is_page(response: Any) -> bool:
    return "html" in response.headers.get("content-type", "").lower()


def refuse_page(response: Any) -> None:
    """Raise `NotTheHub` where a file is expected and a web page comes. No file of a model is one."""
    if _is_page(response):
        response.read()
        raise NotTheHub(title_of(response.text))


def title_of(page: str) -> str:
    """What a web page calls itself, at most 80 characters; "" where it doesn't say."""
    found = _TITLE.search(page[:4096])
    return " ".join(found[1].split()) if found else ""


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
