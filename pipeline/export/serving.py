"""A GGUF file behind llama.cpp's server, which speaks OpenAI's protocol: a process of its own, that ends with who asked.

    python -P -m pipeline.export.serving SETTINGS READY

SETTINGS and READY are JSON files. What llama.cpp prints goes into a log and not onto a terminal: a file from a stranger may hold
control sequences where others have a name.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.common.errors import BadInput, EnvironmentFault, MissingArtifact
from pipeline.export.proof.llama_cpp import INSTALL, is_there, last_words
from pipeline.system.child_process import child_environment, die_with_parent

_LOOK_EVERY_S = 0.2
_OPENING_S, _S_A_GIB = 120, 120
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Served:
    """What is served, and where.

    Attributes:
        model: the GGUF file.
        lora: an adapter's file beside it; empty for none.
        template: the chat template in place of the file's; empty for the file's own.
        name: of the model, as clients see it.
        token: that each request has to carry; empty for none, on loopback only.
        context: tokens of the longest conversation.
    """

    model: str
    name: str
    lora: str = ""
    template: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    token: str = ""
    context: int = 8192
    threads: int = 0


@dataclass(frozen=True)
class Serving:
    """A server that answers.

    Attributes:
        address: `http://host:port`.
    """

    address: str
    process: subprocess.Popen[bytes]


@contextmanager
def serving(what: Served) -> Iterator[Serving]:
    """The server, from its first answer until the end of the block.

    Raises:
        MissingArtifact: llama.cpp is not installed.
        BadInput: the port is taken, another address has no token, or llama.cpp does not open the file.
        EnvironmentFault: it did not open the file in time.
    """
    if not is_there():
        raise MissingArtifact("llama.cpp is not installed here, which serves the model", INSTALL)
    if what.host not in LOOPBACK and not what.token:
        raise BadInput(f"{what.host} can be reached by others, and there is no token", "--token, or HUMIGENCE_TOKEN")
    _check_port(what.host, what.port)
    with tempfile.TemporaryDirectory(prefix="humigence-") as folder, tempfile.TemporaryFile() as log:
        settings, ready = Path(folder) / "settings.json", Path(folder) / "ready.json"
        settings.touch(0o600)
        settings.write_text(json.dumps(asdict(what)), encoding="utf-8")
        command = [sys.executable, "-P", "-m", "pipeline.export.serving", str(settings), str(ready)]
        process = subprocess.Popen(
            command, env=child_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield Serving(_address(process, ready, log, Path(what.model)), process)
        finally:
            process.kill()
            process.wait()


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trying:
        trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trying.bind((host, port))
        except OSError as error:
            raise BadInput(
                f"{host}:{port} can't be listened on: {error.strerror}", "--port with another number, or 0 for any"
            ) from error


def _address(process: subprocess.Popen[bytes], ready: Path, log: Any, model: Path) -> str:
    looks = int((_OPENING_S + _S_A_GIB * (model.stat().st_size >> 30)) / _LOOK_EVERY_S)
    for _ in range(looks):
        if ready.exists():
            return str(json.loads(ready.read_text(encoding="utf-8"))["address"])
        try:
            code = process.wait(_LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            continue
        raise BadInput(
            f"{model} was not opened: {last_words(log, code)}", "humigence export gguf_q8_0 makes one that llama.cpp opens"
        )
    raise EnvironmentFault(
        f"{model} was not open after {looks * _LOOK_EVERY_S:.0f} s", "free memory and processors, then start it again"
    )


# ------------------------------------------------------------------------------------------------ in the child


def main(settings: str, ready: str) -> int:
    die_with_parent()
    import xllamacpp

    what = Served(**json.loads(Path(settings).read_text(encoding="utf-8")))
    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = what.model, {what.name}
    if what.lora:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(what.lora, 1.0)]
    if what.template:
        params.chat_template = what.template
    params.use_jinja, params.n_ctx, params.n_parallel = True, what.context, 1
    params.hostnames, params.port = [what.host], what.port
    params.api_keys = [what.token] if what.token else []
    params.cors_origins = "http://localhost"  # a page of somebody else's that is open in a browser is not to ask
    if what.threads:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = what.threads
    server = xllamacpp.Server(params)
    written = Path(ready).with_suffix(".part")
    written.write_text(json.dumps({"address": server.listening_address}), encoding="utf-8")
    written.replace(ready)
    threading.Event().wait()  # until it is ended
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
