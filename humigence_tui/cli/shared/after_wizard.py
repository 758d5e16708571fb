"""What the shell says once the wizard is left: what was set, where it is saved, what runs now, and a command that works now."""

from __future__ import annotations

from collections.abc import Set

from humigence_tui.cli.shared.options import with_config
from humigence_tui.cli.shared.output import print_message, print_next_commands, table
from humigence_tui.cli.shared.run_report import print_outcome, run_name
from pipeline.config.schema import Config
from pipeline.runs import control, event_log, store
from pipeline.runs.folders import RunFolder, Workspace


def print_summary(here: Workspace, config: Config, config_path: str, before: Set[RunFolder]) -> None:
    """
    Args:
        config: what was saved to `config_path`.
        before: the runs there were when the wizard was opened.
    """
    from screens.setup.plan_facts import changed_settings
    from screens.setup.saved import summary

    print_message(f"saved to {config_path}", "green")
    # The default beside its value, not in a column of its own: the longest value would push it off the line.
    facts = (*summary(config), *changed_settings(config))
    rows = [[f"  {fact.name}", f"{fact.value}   {fact.reason}".rstrip()] for fact in facts]
    for line in table(rows):
        print_message(line)
    _print_what_is_on(here, config, config_path, before)


def _print_what_is_on(here: Workspace, config: Config, config_path: str, before: Set[RunFolder]) -> None:
    of_project = store.runs_of(here, config.project)
    if live := next((run for run in of_project if control.is_alive(run)), None):
        print_message(f"run {run_name(live)} is on; it goes on without this terminal")
        print_next_commands(f"humigence runs follow {run_name(live)}", f"humigence runs stop {run_name(live)}")
        return
    if made := next((run for run in of_project if run not in before), None):
        state = event_log.read_state(made)
        print_message(f"run {run_name(made)}: {control.status_of(made, state)}")
        if state.training or state.error:
            print_outcome(made, state, config_path)
            return
    waits = " --wait" if any(control.is_alive(run) for run in store.runs_of(here)) else ""
    print_next_commands(f"{with_config('pipeline', config_path)} --train{waits}")
