"""`humigence ship`: whether a run's result is shown to be better, as an exit code."""

from __future__ import annotations

from typing import Annotated

import typer

from humigence_tui.cli.shared import run_report
from humigence_tui.cli.shared.options import AsJson, workspace
from humigence_tui.cli.shared.output import out, out_json, print_message
from pipeline.common.errors import EXIT_OK, GatesFailed, MissingArtifact
from pipeline.evaluation.evidence import evidence_of
from pipeline.evaluation.gates import judge, ships
from pipeline.evaluation.held_out_gate import HELD_OUT
from pipeline.runs import event_log, store
from pipeline.runs.events import GateJudged
from pipeline.runs.headline import headline

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def ship(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run's id, its beginning, PROJECT/ID or a path; the newest by default.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Exit code 0: ship it. 3: don't; a gate failed or the held-out loss could not be judged. Nothing is measured anew."""
    found = store.find_run(workspace(), run)
    evidence = evidence_of(found)
    if evidence is None:
        raise MissingArtifact(f"run {run_report.run_name(found)} has not been evaluated", "humigence eval")
    gates = judge(evidence, found.load_config().acceptance)
    state, shipped = event_log.read_state(found), ships(gates)
    if as_json:
        state.gates = gates
        out_json({"run": run_report.run_name(found), "ship": shipped, "why": _why(gates)} | run_report.results_json(state))
    else:
        out(headline(state.held_out_reports, state.answers, evidence.suites), "bold")
        run_report.print_gates(gates)
        print_message(f"{'✔ ship' if shipped else '✘ do not ship'} {run_report.run_name(found)}: {_why(gates)}")
    return EXIT_OK if shipped else GatesFailed.exit_code


def _why(gates: list[GateJudged]) -> str:
    failed = [gate.gate for gate in gates if gate.verdict == "failed"]
    if failed:
        return f"failed: {', '.join(failed)}"
    held_out = next(gate for gate in gates if gate.gate == HELD_OUT)
    if held_out.verdict != "passed":
        return f"{HELD_OUT} {held_out.verdict}: {held_out.next_action}"
    parts = [f"{HELD_OUT} passed"]
    for verdict in ("not judged", "warning"):
        if open_ := [gate.gate for gate in gates if gate.verdict == verdict]:
            parts.append(f"{verdict}: {', '.join(open_)}")
    return "; ".join(parts)
