"""The `humigence` command: finds the module of the command that was asked for, and is the one place where errors end.

Only that module is imported, so `humigence --help` needs neither pydantic nor torch.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

from humigence_tui.cli.shared import output
from humigence_tui.terminal.safe_streams import open_standard_streams, safe_streams
from pipeline import __version__
from pipeline.common.errors import EXIT_BUG, EXIT_OK, EXIT_STOPPED, HumigenceError
from pipeline.common.redact import hide_in
from pipeline.system import faults as machine_faults

# click's UsageError, which newer versions of typer carry inside themselves.
_UsageError: Any = typer.BadParameter.__bases__[0]


class Entry(NamedTuple):
    """A command in the list of `humigence --help`: its module holds a `typer.Typer` called `app`."""

    module: str
    help: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Run": {
        "init": Entry("wizard", "Set up a run in the app: five questions, or every setting."),
        "wizard": Entry("wizard", "The same."),
        "pipeline": Entry("pipeline", "All eight steps; training only with --train or TRAIN=1."),
        "runs": Entry("runs", "List the runs; show, follow, stop or delete them."),
        "queue": Entry("queue", "Runs that wait for a free GPU; sweeps of settings."),
        "report": Entry("report", "A run as one HTML page, to read and hand over."),
        "push": Entry("push", "Send a packaged result to a repository of the Hugging Face hub."),
        "reproduce": Entry("reproduce", "All that makes a run's adapter once more; make it, and compare."),
        "ship": Entry("ship", "Is a run's result shown to be better? Exit code 0, else 3."),
        "infer": Entry("infer", "Ask the packaged model."),
        "chat": Entry("chat", "Talk to the packaged model, in the terminal."),
        "serve": Entry("serve", "The model behind OpenAI's protocol, by llama.cpp's server."),
        "tokens": Entry("tokens", "Tokens per step and second, peak memory of the last run."),
    },
    "Single steps": {
        "validate": Entry("validate", "Check the settings, the paths, the data and this machine."),
        "plan": Entry("plan", "Batch sizes, steps, time and memory, before anything is spent."),
        "model": Entry("model", "Download the base model, or see whether it is here."),
        "preprocess": Entry("preprocess", "Clean, split and tokenize the data."),
        "train": Entry("train", "Train; needs --train or TRAIN=1."),
        "eval": Entry("evaluate", "Judge base and tuned model on held-out rows and curated prompts."),
        "pack": Entry("pack", "Package the best adapter with its cards and checksums."),
        "merge": Entry("merge", "Adapter and base in one model, for vLLM or llama.cpp."),
        "export": Entry("export", "A run's result as other programs read it: merged, GGUF, Ollama."),
    },
    "Settings and machine": {
        "config": Entry("config", "View, get or set settings; list the keys."),
        "data": Entry("data", "Make rows, see them as the model will, measure a file."),
        "errors": Entry("errors", "What an error you read means, and what to do."),
        "doctor": Entry("doctor", "What this machine has, what is missing, how to mend it."),
        "version": Entry("version", "Versions of Humigence and of what it stands on."),
    },
}
ENTRIES = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class Commands(TyperGroup):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(ENTRIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = ENTRIES.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"humigence_tui.cli.{entry.module}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        command.help = "\n\n".join(filter(None, (entry.help, command.help)))
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        self.commands: Any = dict.fromkeys(ENTRIES)  # suggestions for a mistyped name come from these keys
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, ENTRIES))
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.help) for name, entry in entries.items()])


_root = typer.Typer(cls=Commands, add_completion=False, rich_markup_mode=None)


def _show_version(asked: bool) -> None:
    if asked:
        output.out(__version__)
        raise typer.Exit


@_root.callback(epilog="--debug, anywhere, shows the traceback of an error. humigence COMMAND --help explains a command.")
def _humigence(
    version: bool = typer.Option(False, "--version", is_eager=True, callback=_show_version, help="Print the version."),
) -> None:
    """Fine-tune a small language model on one GPU: from a JSONL file to a tested, packaged adapter."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    if arguments is None:  # the process is this command's alone
        open_standard_streams()
        hide_in("stderr")
    _never_fail_to_print()
    with safe_streams():
        code = _run(arguments)
        output.discard_messages()
    return code


def _run(arguments: list[str] | None) -> int:
    arguments, debug = _without_debug(sys.argv[1:] if arguments is None else arguments)
    try:
        result = typer.main.get_command(_root).main(
            args=arguments or ["--help"], prog_name="humigence", standalone_mode=False, windows_expand_args=False
        )
        return result if isinstance(result, int) else EXIT_OK
    except _UsageError as error:
        return _usage(error)
    except HumigenceError as error:
        if debug:
            _traceback()
        _complain(error.message, error.hint)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        output.print_message("stopped")
        return EXIT_STOPPED
    except output.ReaderGone:
        return EXIT_OK
    except Exception as error:  # noqa: BLE001  # the boundary: a bug of ours is reported in one line
        if debug:
            _traceback()
        if fault := machine_faults.as_fault(error, Path(os.environ.get("PWD", "."))):
            _complain(fault.message, fault.hint)
            return fault.exit_code
        _complain(f"this is a bug: {type(error).__name__}: {error}", "run the same command with --debug to see where")
        return EXIT_BUG


def _never_fail_to_print() -> None:
    """A terminal without UTF-8 shows `?` for a `✔`; it must not end the command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")


def _without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, which is taken wherever it stands, and whether tracebacks are wanted."""
    remaining = [argument for argument in arguments if argument != "--debug"]
    return remaining, len(remaining) < len(arguments) or os.environ.get("HUMIGENCE_DEBUG", "") not in ("", "0", "false")


def _usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "humigence"
    _complain(error.format_message(), f"{path} --help explains it")
    return int(error.exit_code)


def _complain(message: str, hint: str) -> None:
    first, *more = message.splitlines() or [""]
    output.print_message(f"✘ {first}", "red")
    for line in (*more, *(f"  {line}" for line in hint.splitlines())):
        output.print_message(line)


def _traceback() -> None:
    import traceback

    for line in traceback.format_exc().splitlines():
        output.print_message(line)


if __name__ == "__main__":
    sys.exit(main())
