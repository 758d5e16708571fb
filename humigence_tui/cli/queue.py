"""`humigence queue`: runs that wait for a free device, and sweeps: one config with several values of some settings."""

from __future__ import annotations

from typing import Annotated

import typer

from humigence_tui.cli.shared import queue_text
from humigence_tui.cli.shared.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    TrainFlag,
    open_project,
    training_asked,
    workspace,
)
from humigence_tui.cli.shared.output import confirmed, is_interactive, out, out_json, print_message, print_next_commands
from pipeline.common.errors import EXIT_OK, BadInput, MissingArtifact, Stopped
from pipeline.config import sweep
from pipeline.runs.queue import New, Queue, Queued, newest_sweep, numbered, waiting

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

Numbers = Annotated[list[int], typer.Argument(metavar="NUMBER…", help="As queue list shows them.", show_default=False)]
MaybeNumbers = Annotated[
    list[int] | None,
    typer.Argument(
        metavar="[NUMBER]…", help="As queue list shows them; those queued together last by default.", show_default=False
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE[,VALUE]",
        help="A setting for these runs; of several values, and of several --set, every combination is a run.",
        show_default=False,
    ),
]  # fmt: skip


@app.command()
def add(config: ConfigPath = DEFAULT_CONFIG, set_: Set = None, as_json: AsJson = False) -> None:
    """Put runs of a config at the end of the queue. Each is checked now, and keeps the config as it is now."""
    from humigence_tui.cli.shared.queue_check import require_sound

    given = sweep.assignments(set_ or ())
    here, base = open_project(config)
    points = sweep.points(base, given, config)
    require_sound(here, points)
    queue = Queue(here)
    added = queue.add([New(point.config.to_json(), config, point.differs) for point in points])
    if as_json:
        out_json([queue_text.as_json(each, here) for each in added])
        return
    for line in queue_text.added_lines(added, given, base.project):
        out(line)
    if queue.runner() is not None:
        print_message("the queue is running: each starts by itself when its turn comes")
        print_next_commands("humigence queue list")
    else:
        print_next_commands("humigence queue run --train", "humigence queue list")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """All that is queued, in order, with what became of those that ran."""
    here = workspace()
    queue = Queue(here)
    runs = queue.read()
    if as_json:
        out_json({"runner": queue.runner(), "runs": [queue_text.as_json(each, here) for each in runs]})
        return
    if not runs:
        print_message("the queue is empty")
        print_next_commands("humigence queue add --set train.lr=1e-4,2e-4")
        return
    queue_text.print_list(runs, here)
    for line in queue_text.standing(runs, queue.runner()):
        print_message(line)
    if waiting(runs) and queue.runner() is None:
        print_next_commands("humigence queue run --train")


@app.command()
def rm(
    numbers: MaybeNumbers = None,
    ended: Annotated[bool, typer.Option("--ended", help="All whose run has ended.")] = False,
) -> None:
    """Take runs out of the list. What a run has made stays: humigence runs rm removes that."""
    if bool(numbers) == ended:
        raise BadInput("queue rm: which ones?", "humigence queue rm NUMBER…, or --ended; humigence queue list shows the numbers")
    queue = Queue(workspace())
    removed = queue.remove_ended() if ended else queue.remove(numbers or ())
    print_message(f"removed: {', '.join(str(each.number) for each in removed)}" if removed else "none has ended")


@app.command()
def move(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="As queue list shows it.")],
    place: Annotated[int, typer.Argument(metavar="PLACE", min=1, help="Among those that wait: 1 is the next to start.")],
) -> None:
    """Give a waiting run another place in the order."""
    order = Queue(workspace()).move(number, place)
    print_message(f"the order now: {', '.join(str(each.number) for each in order)}")


@app.command()
def run(
    train: TrainFlag = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once instead of following.")] = False,
) -> int:
    """Start what waits, one run on each free GPU or one on the CPU, until nothing is left. It lives in a process of its own:
    Ctrl-C and a logout leave it alone. The exit code is that of the first run that did not end well, else 0.
    """
    from pipeline.runner import queue_process

    queue = Queue(workspace())
    before = queue.read()
    if queue.runner() is None:
        if all(each.state == "ended" for each in before):
            raise MissingArtifact("nothing waits in the queue", "humigence queue add --config FILE puts a run there")
        _require_training(train, len(waiting(before)))
    pid = queue_process.spawn(queue.workspace)
    print_message(f"the queue is running (process {pid}); runs start by themselves, and a closed terminal leaves them alone")
    if detach:
        print_next_commands("humigence queue list", "humigence queue stop")
        return EXIT_OK
    return _followed(queue, {each.number for each in before if each.state == "ended"})


def _require_training(flag: bool, waits: int) -> None:
    """Training was asked for, by the flag, TRAIN or an answer now.

    Raises:
        BadInput: it was not, and nobody can be asked.
        Stopped: the answer was no.
    """
    if training_asked(flag):
        return
    if not is_interactive() or training_asked(True) is False:
        raise BadInput("training was not asked for", "humigence queue run --train, or TRAIN=1; TRAIN=0 forbids it")
    if not confirmed(f"Train the {waits} run{'' if waits == 1 else 's'} that wait?", default=False):
        raise Stopped("nothing was started", "humigence queue run --train starts them")


def _followed(queue: Queue, ended_before: set[int]) -> int:
    from pipeline.runner import queue_process

    try:
        for line in queue_process.follow(queue):
            if line:
                print_message(line)
    except KeyboardInterrupt:
        print_message()
        print_message("the queue goes on")
        print_next_commands("humigence queue list", "humigence queue stop", "humigence runs follow")
        return EXIT_OK
    ended = [each for each in queue.read() if each.state == "ended" and each.number not in ended_before]
    if ended:
        print_next_commands("humigence queue compare", "humigence queue list")
    return next((each.exit_code for each in ended if each.exit_code), EXIT_OK)


@app.command()
def stop() -> None:
    """Start nothing more. Runs that are on go on: humigence runs stop ends one."""
    queue = Queue(workspace())
    queue.request_stop()
    on = [each.run for each in queue.read() if each.is_on and each.run]
    print_message("the queue starts nothing more" + (f"; on are {', '.join(on)}" if on else ""))
    print_next_commands("humigence queue run --train", *(f"humigence runs stop {each}" for each in on))


@app.command()
def compare(numbers: MaybeNumbers = None, as_json: AsJson = False) -> None:
    """Runs of the queue beside each other: in what they differ, and their verdicts. The lowest held-out loss is first."""
    here = workspace()
    runs = Queue(here).read()
    chosen: list[Queued] = numbered(runs, numbers) if numbers else newest_sweep(runs)
    if not chosen:
        raise MissingArtifact("the queue is empty: there is nothing to compare", "humigence queue add puts runs there")
    from humigence_tui.cli.shared import queue_compare

    rows = queue_compare.compared(chosen, here)
    if as_json:
        out_json([row.to_json() for row in rows])
        return
    queue_compare.print_rows(rows)
