"""`--in-process`: the trainer in a thread of the app instead of in a process of its own. Same runner, same log, same fold."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from humigence_tui.background.post import Post
from humigence_tui.terminal.tty import output_to
from pipeline.common.errors import HumigenceError
from pipeline.runs import control
from pipeline.runs.folders import RunFolder, Workspace
from screens.frame import messages

if TYPE_CHECKING:
    from pipeline.config.schema import Config
    from pipeline.runs.request import Request


class InProcessTrainer(threading.Thread):
    """Not a daemon: a terminal that vanishes takes the screen away, not the training; the process ends when the run does.

    What libraries print goes to the run's `output.log`, like that of a worker.
    """

    def __init__(self, workspace: Workspace, config: Config, request: Request, post: Post) -> None:
        super().__init__(name="humigence-trainer", daemon=False)
        self._workspace, self._config, self._request, self._post = workspace, config, request, post
        self._output = contextlib.ExitStack()
        self.folder: RunFolder | None = None
        self.exit_code: int | None = None

    def run(self) -> None:
        # Here, where it is asked for: this is what brings torch into the process.
        from pipeline.runner import launch

        try:
            with self._output:
                ended = launch.in_foreground(self._workspace, self._config, self._request, on_run=self._begun)
        except HumigenceError as error:
            self._post(messages.RunRefused(error))
            return
        self.exit_code = ended.exit_code
        if ended.standing:
            self._post(messages.RunStarted(ended.run, standing=True))

    def _begun(self, run: RunFolder) -> None:
        self._output.enter_context(output_to(run.output_log))
        self.folder = run
        self._post(messages.RunStarted(run, standing=False))

    def ask_to_stop(self) -> None:
        """Save and stop at the end of the optimizer step."""
        if self.folder:
            control.request_stop(self.folder, "save")
