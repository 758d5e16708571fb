"""What Go's own text/template makes of the templates, kept in a file: the tests need no Go.

apt-get install golang-go
python -m tests.pipeline.export.ollama.goldens --write
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipeline.export.ollama.dialogue import learn
from pipeline.export.ollama.go_template import go_template
from tests.pipeline.export.ollama.spoken import SPOKEN, renderer

FILE = Path(__file__).with_name("goldens.json")
_PROGRAM = Path(__file__).with_name("render.go.txt")
_TURNS = [
    ("user", "One?"),
    ("assistant", "1."),
    ("user", "Two {{ .Role }}?"),
    ("assistant", '2.\n\n"""Yes"""'),
    ("user", "Three?"),
]
_SYSTEM = ("system", "Be brief.\nBe kind.")
CONVERSATIONS: dict[str, list[dict[str, str]]] = {
    name: [{"role": role, "content": content} for role, content in said]
    for name, said in {
        "a question": _TURNS[:1],
        "a system message and a question": [_SYSTEM, _TURNS[0]],
        "three turns": _TURNS,
        "a system message and three turns": [_SYSTEM, *_TURNS],
        "an answer that is gone on with": _TURNS[:2],
        "a role of tools": [_TURNS[0], ("tool", "12")],
    }.items()
}


def sources() -> dict[str, str]:
    """The template of each family in Go's language."""
    return {name: go_template(learn(renderer(jinja))) for name, jinja in SPOKEN.items()}


def rendered_by_go(templates: dict[str, str]) -> dict[str, list[str]]:
    """What Go writes, or `refused: …`."""
    asked = [{"template": each, "conversations": list(CONVERSATIONS.values())} for each in templates.values()]
    with tempfile.TemporaryDirectory() as folder:
        program = shutil.copy(_PROGRAM, Path(folder) / "render.go")
        command = ["go", "run", program]
        ran = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True, timeout=300)
    return dict(zip(templates, json.loads(ran.stdout), strict=True))


def goldens() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__" and "--write" in sys.argv:
    made = sources()
    texts = rendered_by_go(made)
    document = {name: {"template": made[name], "texts": dict(zip(CONVERSATIONS, texts[name], strict=True))} for name in made}
    FILE.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
