"""How a run ended: the report of its gates, its error, and what to do next."""

from __future__ import annotations

import os
from typing import Any

from humigence_tui.cli.shared.options import DEFAULT_CONFIG, with_config, workspace
from humigence_tui.cli.shared.output import Colour, out, out_json, print_message, print_next_commands, table
from pipeline.common.errors import EXIT_OK, EXIT_STOPPED, BadInput, EnvironmentFault
from pipeline.common.text import counted, gate_needs, gate_value, loss
from pipeline.config import file as config_file
from pipeline.runs import post_mortem, provenance
from pipeline.runs.control import status_of
from pipeline.runs.events import Answered, GateJudged, SuiteMeasured, SuiteVerdict, Verdict
from pipeline.runs.folders import RunFolder
from pipeline.runs.headline import SUITE_MARKS, change, headline, suite_chance, suite_title, suite_value
from pipeline.runs.state import RunState
from pipeline.runs.store import summary

_VERDICT_COLOURS: dict[Verdict, Colour] = {"passed": "green", "failed": "red", "not judged": "amber", "warning": "amber"}
_CHANGE_COLOURS: dict[str, Colour] = {"better": "green", "worse": "red"}
_SUITE_COLOURS: dict[SuiteVerdict, Colour] = {"fell": "red", "held": "green"}
_VERDICT_MARKS: dict[Verdict, str] = {"passed": "✔", "failed": "✘", "not judged": "·", "warning": "!"}


def run_name(run: RunFolder) -> str:
    """How a person names a run on the command line."""
    return f"{run.project}/{run.run_id}"


def resume_command(run: RunFolder) -> str:
    return f"humigence pipeline --train --resume {run_name(run)}"


# ---------------------------------------------------------------------------------------------------------- gates


def gate_rows(gates: list[GateJudged]) -> list[list[str]]:
    """Mark, name, value, what was asked for, and verdict of each gate."""
    return [
        [
            _VERDICT_MARKS[gate.verdict],
            gate.gate,
            gate_value(gate.value, gate.unit),
            gate_needs(gate.threshold, gate.unit, gate.at_most),
            gate.verdict,
        ]
        for gate in gates
    ]


def print_verdict(state: RunState) -> None:
    """What came out on standard output: the verdict in one line, then the gates and the suites."""
    print_headline(state)
    print_findings(state)


def print_headline(state: RunState) -> bool:
    """The verdict in one line, on standard output; whether there is one."""
    verdict = headline(state.held_out_reports, state.answers, state.suites)
    if verdict:
        out(verdict, "bold")
    return bool(verdict)


def print_findings(state: RunState) -> None:
    """The gates and the suites, on standard output."""
    print_gates(state.gates)
    print_suites(state.suites)


def print_gates(gates: list[GateJudged]) -> None:
    """The report of the gates on standard output: what came out, what was asked for, what to do."""
    if not gates:
        return
    out(*_gates_headline(gates))
    head = ["", "gate", "value", "needs", "verdict"]
    first, *lines = table(gate_rows(gates), right=(2, 3), head=head)
    out(f"  {first}", "dim")
    for gate, line in zip(gates, lines, strict=True):
        out(f"  {line}", _VERDICT_COLOURS[gate.verdict])
        for text in filter(None, (gate.explanation, gate.next_action if gate.verdict != "passed" else "")):
            out(f"       {text}")


def _gates_headline(gates: list[GateJudged]) -> tuple[str, Colour]:
    failed = sum(gate.verdict == "failed" for gate in gates)
    passed = sum(gate.verdict == "passed" for gate in gates)
    open_ = sum(gate.verdict == "not judged" for gate in gates)
    if failed:
        return f"✘ {failed} of {len(gates)} gates failed", "red"
    if open_:
        return f"· {passed} of {len(gates)} gates passed, {open_} not judged for want of evidence", "amber"
    if passed < len(gates):
        return f"✔ {passed} of {len(gates)} gates passed, with a warning", "green"
    return "✔ all gates passed", "green"


def print_suites(suites: list[SuiteMeasured]) -> None:
    """A line a suite: what base and tuned model got right, what was won and lost, whether that is a fall."""
    if not suites:
        return
    out()
    rows = [
        [
            SUITE_MARKS[each.verdict], suite_title(each.suite), counted(each.items) if each.items else "–",
            suite_value(each, each.base), suite_value(each, each.tuned), counted(each.won), counted(each.lost),
            suite_chance(each), each.verdict + (f" ({each.measure})" if each.measure else ""),
        ]
        for each in suites
    ]  # fmt: skip
    head = ["", "suite", "items", "base", "tuned", "won", "lost", "chance", "verdict"]
    first, *lines = table(rows, right=(2, 3, 4, 5, 6, 7), head=head)
    out(f"  {first}", "dim")
    for each, line in zip(suites, lines, strict=True):
        out(f"  {line}", _SUITE_COLOURS.get(each.verdict))


def print_answers(answers: list[Answered]) -> None:
    """A line a prompt: whether base and tuned model answer it well, and what has changed; then the answers that changed."""
    if not answers:
        return
    out()
    rows = [
        [_mark(answer.base_reasons), _mark(answer.tuned_reasons), change(answer), _one_line(answer.prompt)] for answer in answers
    ]
    first, *lines = table(rows, head=["base", "tuned", "", "prompt"])
    out(f"  {first}", "dim")
    for answer, line in zip(answers, lines, strict=True):
        out(f"  {line}", _CHANGE_COLOURS.get(change(answer)))
    for answer in answers:
        if change(answer):
            out()
            out(f"  {_one_line(answer.prompt)}", "bold")
            out(f"    base   {_one_line(answer.base, 400)}")
            out(f"    tuned  {_one_line(answer.tuned, 400)}")
            out(f"    {change(answer)}: {', '.join(answer.tuned_reasons or answer.base_reasons)}", "dim")


def _mark(reasons: tuple[str, ...]) -> str:
    return "✘" if reasons else "✔"


def _one_line(text: str, most: int = 70) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


# ------------------------------------------------------------------------------------------------- the end of a run


def exit_code(run: RunFolder, state: RunState) -> int:
    """The exit code a run's end means for the command that followed it."""
    status = status_of(run, state)
    if status == "crashed":
        return EnvironmentFault.exit_code
    if status == "stopped":
        return EXIT_STOPPED
    return state.exit_code if state.exit_code is not None else EXIT_OK


def print_end(run: RunFolder, state: RunState, *, data_as_json: bool, config_path: str = DEFAULT_CONFIG) -> None:
    """The report on standard output; the way the run ended and the next commands on standard error.

    Args:
        data_as_json: the report as one JSON object, else the gates as a table.
        config_path: the config that the next commands name.
    """
    if data_as_json:
        out_json(as_json(run, state))
    else:
        print_verdict(state)
    print_outcome(run, state, config_path)


def print_outcome(run: RunFolder, state: RunState, config_path: str = DEFAULT_CONFIG) -> None:
    """How the run ended and what to do now, on standard error."""
    status = status_of(run, state)
    if status == "finished":
        _print_finished(run, state, config_path)
    elif status == "stopped":
        _print_stopped(run, state)
    elif status == "failed":
        _print_failed(run, state)
    elif status == "crashed":
        _print_crashed(run, state)


def _print_finished(run: RunFolder, state: RunState, config_path: str) -> None:
    if not state.training:
        print_message("training was not asked for: --train or TRAIN=1 trains")
        print_next_commands(with_config("pipeline --train", config_path))
    elif state.packed:
        ask = with_config('infer --prompt "…"', _config_of(run, config_path))
        print_next_commands(ask, f"humigence runs show {run_name(run)}")
    else:
        print_next_commands(f"humigence runs show {run_name(run)}")


def _config_of(run: RunFolder, config_path: str) -> str:
    """The config with which commands mean this run's project: one that was named, the usual one where it is of that project, else
    the run's own."""
    if config_path != DEFAULT_CONFIG:
        return config_path
    here = workspace().root
    try:
        project = config_file.load(config_path, here).project
    except BadInput:
        project = ""
    return config_path if project == run.project else os.path.relpath(run.config, here)


def _print_stopped(run: RunFolder, state: RunState) -> None:
    saved = f"step {counted(state.saved_step)} is saved" if state.saved_step is not None else "nothing was trained yet"
    left = state.left_to_do()
    print_message(f"stopped: {saved}" + (f"; left to do: {', '.join(left)}" if left else ""))
    print_next_commands(resume_command(run) if state.training else "humigence pipeline")


def _print_failed(run: RunFolder, state: RunState) -> None:
    if state.error is None:
        return
    first, *more = state.error.message.splitlines() or [""]
    print_message(f"✘ {first}", "red")
    for line in (*more, *(f"  {line}" for line in state.error.hint.splitlines())):
        print_message(line)
    print_message(f"  log: {run.output_log}", "dim")


def _print_crashed(run: RunFolder, state: RunState) -> None:
    where = f" in step {state.current}" if state.current else ""
    at = f", after optimizer step {counted(state.step)}" if state.step else ""
    print_message(f"✘ crashed: the run's process ({state.pid or 'unknown'}) ended without a word{where}{at}", "red")
    print_message(f"  {post_mortem.why(run) or 'most often the machine ran out of memory; the end of the log may tell'}")
    print_message(f"  log: {run.output_log}", "dim")
    print_next_commands(resume_command(run) if state.training else "humigence pipeline")


# ------------------------------------------------------------------------------------------------------- as JSON


def as_json(run: RunFolder, state: RunState) -> dict[str, Any]:
    """Everything `runs show --json` and `pipeline --json` print of a run."""
    return (
        summary(run)
        | {
            "error": {"message": state.error.message, "hint": state.error.hint} if state.error else None,
            "saved_step": state.saved_step,
            "step_outcomes": {name: step.outcome for name, step in state.steps.items()},
            "step_seconds": {name: step.seconds for name, step in state.steps.items()},
            "step_summaries": {name: step.summary for name, step in state.steps.items()},
            "tokens_per_second": state.tokens_per_second(),
            "peak_memory_bytes": state.peak_memory_bytes,
            "layers_proved": _fields(state.layers_proved, *_PROVED) if state.layers_proved else None,
            "memory_ran_out": [_fields(event, *_MEMORY) for event in state.memory_ran_out],
            "starts": provenance.starts(run),
            "best": dict(zip(("step", "val_loss"), state.best, strict=True)) if state.best else None,
        }
        | results_json(state)
    )


_HELD_OUT = (
    "rows", "tokens", "base_loss", "tuned_loss", "base_accuracy", "tuned_accuracy", "conversations", "better", "worse", "p_value",
)  # fmt: skip
_SUITE = ("suite", "items", "base", "tuned", "won", "lost", "p_value", "verdict", "chance", "measure")
_ANSWER = ("prompt", "base", "tuned", "base_reasons", "tuned_reasons")
_MEMORY = ("step", "place", "answer", "tokens", "limit")
_PROVED = ("isolated", "how", "fused", "isolation_difference", "fused_difference", "reason", "seconds")
_GATE = ("gate", "verdict", "value", "threshold", "unit", "at_most", "explanation", "next_action")


def results_json(state: RunState) -> dict[str, Any]:
    """What evaluation, packing and gates found."""
    return {
        "verdict": headline(state.held_out_reports, state.answers, state.suites),
        "held_out": {report.split: _fields(report, *_HELD_OUT) for report in state.held_out_reports},
        "answers": [_fields(answer, *_ANSWER) for answer in state.answers],
        "suites": [_fields(suite, *_SUITE) for suite in state.suites],
        "gate_reports": [_fields(gate, *_GATE) for gate in state.gates],
        "packed": [_fields(packed, "folder", "format", "size_bytes") for packed in state.packed],
    }


def _fields(event: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(event, name) for name in names}


def losses(state: RunState) -> str:
    """`1.412 train, 1.509 held out`."""
    parts = [("train", state.train_loss), ("held out", state.val_loss)]
    return ", ".join(f"{loss(value)} {name}" for name, value in parts if value is not None)
