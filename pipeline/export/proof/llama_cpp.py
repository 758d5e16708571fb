"""A GGUF file opened by llama.cpp itself, in a process of its own: what it makes of prompts, and how likely it finds answers.

    python -P -m pipeline.export.proof.llama_cpp QUESTIONS ANSWERS

QUESTIONS and ANSWERS are JSON files. llama.cpp may abort, loop or take all memory over a file that it does not like, so there is
a deadline and a limit of memory. It listens on the loopback, for this process only: each request carries a token.
"""

from __future__ import annotations

import json
import resource
import secrets
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.system.child_process import child_environment, die_with_parent

INSTALL = "pip install 'humigence[gguf]'"
_BIAS = 1000.0  # so that a token is taken whatever the model thinks of it; what is told is the model's own log-probability
_LIMIT_BESIDE_FILE = 6 << 30
_LAST_LINES = 4


class DidNotOpen(Exception):
    """llama.cpp gave no answers; why, in its own words."""


def is_there() -> bool:
    """Whether llama.cpp is installed here (`xllamacpp`)."""
    return find_spec("xllamacpp") is not None


def ask(questions: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Have a child open a file and answer.

    Args:
        questions: `model`, the file; `lora`, an adapter's file or null; `template`, the chat template in place of the file's or
            null; `context` tokens; `threads`; `conversations`, each a
            list of messages; `texts`, prompts as they are; `rows`, each `ids` and the `places` that are scored; `stops`, ids
            after which it should stop.
        seconds: until it is ended.

    Returns:
        `prompts`: for each conversation `text` and `ids`, or `refused`; `texts`: the ids of each; `rows`: log-probabilities in
        nats, a list a row, null for none; `stops`: for each id whether it stopped.

    Raises:
        DidNotOpen: it ended without an answer, or not in time.
    """
    with tempfile.TemporaryDirectory(prefix="humigence-") as folder:
        asked, answered = Path(folder) / "questions.json", Path(folder) / "answers.json"
        asked.write_text(json.dumps(questions), encoding="utf-8")
        command = [sys.executable, "-P", "-m", "pipeline.export.proof.llama_cpp", str(asked), str(answered)]
        with tempfile.TemporaryFile() as printed:
            try:
                ended = subprocess.run(
                    command, env=child_environment(), stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, timeout=seconds,
                    check=False, start_new_session=True,
                )  # fmt: skip
            except subprocess.TimeoutExpired as error:
                raise DidNotOpen(f"llama.cpp gave no answer within {seconds:.0f} s") from error
            if ended.returncode == 0 and answered.is_file():
                found: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
                return found
            raise DidNotOpen(last_words(printed, ended.returncode))


def last_words(printed: Any, code: int) -> str:
    """Why it ended, of the open file into which it printed."""
    printed.seek(0)
    text = printed.read()[-65_536:].decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip(" ^~")]
    telling = [line for line in lines if "rror" in line or "ailed" in line or "unknown" in line] or lines
    return f"llama.cpp did not open it (exit code {code}): " + " | ".join(telling[-_LAST_LINES:])[:600]


# ------------------------------------------------------------------------------------------------ in the child


def main(asked: str, answered: str) -> int:
    die_with_parent()  # a file of gigabytes is not asked for nobody
    questions = json.loads(Path(asked).read_text(encoding="utf-8"))
    size = Path(questions["model"]).stat().st_size
    limit = 2 * size + _LIMIT_BESIDE_FILE
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    model = _Opened(questions)
    answers = {
        "prompts": [model.prompt(each) for each in questions["conversations"]],
        "texts": [model.ids_of(each) for each in questions.get("texts", ())],
        "rows": [model.log_probabilities(row["ids"], row["places"]) for row in questions["rows"]],
        "stops": [model.stops_at(each, questions["rows"][0]["ids"][:1]) for each in questions["stops"]],
    }
    Path(answered).write_text(json.dumps(answers), encoding="utf-8")
    return 0


class _Opened:
    """llama.cpp with a file open."""

    def __init__(self, questions: Mapping[str, Any]) -> None:
        import xllamacpp

        params, self._token = xllamacpp.CommonParams(), secrets.token_hex(16)
        params.model.path = questions["model"]
        if questions.get("lora"):
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(questions["lora"], 1.0)]
        if questions.get("template"):
            params.chat_template, params.use_jinja = questions["template"], True
        params.n_ctx, params.n_parallel, params.n_gpu_layers = questions["context"], 1, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = questions["threads"]
        params.cpuparams.poll = params.cpuparams_batch.poll = 0  # threads that spin stand in each other's way on a busy machine
        params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [self._token]
        params.warmup, params.fit_params, params.no_extra_bufts, params.swa_full = False, False, True, True
        params.cache_ram_mib = 0
        self._server = xllamacpp.Server(params)

    def prompt(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        """What its template engine makes of messages, and the ids."""
        try:
            text = self._post("/apply-template", {"messages": messages})["prompt"]
        except urllib.error.HTTPError as error:
            return {"refused": error.read().decode("utf-8", "replace")[:300]}
        return {"text": text, "ids": self.ids_of(text)}

    def ids_of(self, text: str) -> list[int]:
        """Of a prompt, with what llama.cpp puts before it."""
        asked = {"content": text, "add_special": True, "parse_special": True}
        found: list[int] = self._post("/tokenize", asked)["tokens"]
        return found

    def log_probabilities(self, ids: list[int], places: list[int]) -> list[float | None]:
        """Of `ids[place]` after those before it, in nats; None of one that ends inside a character."""
        return [self._of(ids[:place], ids[place]) for place in places]

    def _of(self, before: list[int], target: int) -> float | None:
        told = self._next(before, target, 1).get("completion_probabilities")
        if not told:
            return None
        answer = told[0]
        if answer["id"] != target:
            raise ValueError(f"error: asked for token {target}, got {answer['id']}")
        return float(answer["logprob"])

    def stops_at(self, target: int, before: list[int]) -> bool:
        """Whether an answer ends with this token."""
        return bool(self._next(before, target, 2)["stop_type"] == "eos")

    def _next(self, before: list[int], target: int, most: int) -> Any:
        chosen = {"logit_bias": [[target, _BIAS]], "n_probs": 1, "temperature": 0, "n_predict": most, "cache_prompt": True}
        return self._post("/completion", {"prompt": before, **chosen})

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        request = urllib.request.Request(self._server.listening_address + path, json.dumps(body).encode(), headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy of the environment has no loopback
        with opener.open(request) as answer:
            return json.load(answer)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
