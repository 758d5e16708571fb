"""Write recorded runs into a workspace: `python -m tests.recordings.make FOLDER [NAME …]`.

Each recording is a run folder as a worker leaves it: config, meta, event log, output log. Numbers come from a seeded generator,
times from a fixed morning (`START`), so every recording is the same on every machine. Recordings of live runs are made to end
"now" when asked (`until`), and their lock is held by whoever shows them.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.common.files import write_json
from pipeline.config.schema import Config
from pipeline.runs import events as ev
from pipeline.runs.events import STEP_NAMES, Envelope, Event, StepName, to_line
from pipeline.runs.folders import RunFolder, Workspace

START = datetime(2025, 11, 22, 9, 31, 4).timestamp()
MODEL = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
GPU = "NVIDIA GeForce RTX 4080"
GIB = 1 << 30
TOKENS = 11_900

PROMPTS = (
    "Explain overfitting simply.",
    "My parcel says delivered but I have nothing. What do I do?",
    "Write a two-line apology for a late refund.",
    "List three ways to cut GPU memory while training.",
)
_EARLY = (
    "Overfitting is a common problem in machine learning where the model is trained on a dataset that is too small or too",
    "I'm sorry to hear that your parcel has been delivered but you have nothing. I'm sorry to hear that",
    "Sorry, sorry, we are sorry for the refund of the refund.",
    "1. GPU memory\n2. GPU memory\n3. GPU memory",
)
_LATE = (
    "Overfitting is when a model learns the training examples by heart and then does badly on anything new. "
    "Think of a pupil who memorises the answers of last year's exam.",
    "I am sorry. First look at the photo in the delivery notice, it often shows where the parcel was put. If it is not there, "
    "reply with the order number and I will open a search with the carrier today; it takes two working days at most.",
    "We are sorry your refund is late. It was sent today and will reach your account within three days.",
    "1. Quantize the frozen weights to 4 bits.\n2. Use gradient checkpointing.\n3. Make the micro-batch smaller and accumulate.",
)


@dataclass
class Tape:
    """Events in order, with a clock that is moved by hand."""

    time: float = START
    attempt: int = 1

    seed: str = ""  # so that no two recordings have the same curve

    def __post_init__(self) -> None:
        self.envelopes: list[Envelope] = []

    def add(self, event: Event, after: float = 0.0) -> None:
        """`after`: seconds since the event before."""
        self.time += after
        self.envelopes.append(Envelope(len(self.envelopes) + 1, round(self.time, 3), self.attempt, event))

    def step(self, name: StepName, seconds: float, summary: str, outcome: ev.StepOutcome = "done") -> None:
        self.add(ev.StepStarted(name), 0.01)
        self.add(ev.StepFinished(name, outcome, seconds, summary), seconds)


def loss_at(step: int, total: int, noise: random.Random) -> float:
    """A loss that falls fast, then slowly, with the spread of real small batches."""
    return 1.15 + 1.35 * math.exp(-step / (0.08 * total)) + 0.25 * math.exp(-step / (0.5 * total)) + noise.gauss(0, 0.09)


def begin(
    tape: Tape, total: int, *, device: str = GPU, model: str = MODEL, precision: str = "qlora_nf4", project: str = "support"
) -> None:
    """Attempt, and everything before training."""
    tape.add(ev.AttemptStarted(41822, project, model, precision, True, device))
    tape.step("validate", 0.4, "8,412 rows of chat_messages, GPU 0 with 15.2 GiB free")
    tape.add(ev.StepStarted("plan"))
    tape.add(plan(total, exact=False), 1.0)
    tape.add(ev.StepFinished("plan", "done", 1.1, f"≈ micro-batch 16 × 6, {total:,} steps"), 0.1)
    tape.step("model", 38.2, "2.2 GiB downloaded and checked")
    tape.add(ev.StepStarted("preprocess"))
    for done in (2000, 5200, 8412):
        tape.add(ev.StepProgress("preprocess", done, 8412, "rows", "tokenizing"), 1.9)
    tape.add(plan(total, exact=True), 0.3)
    tape.add(ev.StepFinished("preprocess", "done", 6.3, "6,712 train, 839 val, 838 test rows, 23 rejected"), 0.3)


def plan(total: int, *, exact: bool, micro_batch: int = 16, accumulation: int = 6) -> ev.PlanMade:
    return ev.PlanMade(
        exact, micro_batch, accumulation, total, TOKENS, total * TOKENS, max(1, total // 12), int(5.1 * GIB), total * 0.22
    )


def train(
    tape: Tape,
    total: int,
    first: int = 1,
    last: int | None = None,
    *,
    every: int | None = None,
    seconds: float = 0.22,
    held_out: Callable[[int], float] | None = None,
    spoil: Callable[[int, float], float] = lambda _step, loss: loss,
) -> None:
    """Optimizer steps `first` to `last` of `total`, with held-out losses, checkpoints and samples at every `every` steps."""
    noise = random.Random(f"{tape.seed} {first}")
    every = every or max(1, total // 12)
    best = math.inf
    for step in range(first, (last or total) + 1):
        took = seconds * noise.uniform(0.96, 1.06) * (6 if step == first else 1)
        loss = spoil(step, loss_at(step, total, noise))
        lr = 2e-4 * min(1.0, step / max(1, 0.03 * total)) * (0.5 + 0.5 * math.cos(math.pi * step / total))
        norm = abs(0.35 + 0.9 * math.exp(-step / (0.1 * total)) + noise.gauss(0, 0.06)) if math.isfinite(loss) else math.nan
        tape.add(
            ev.TrainStep(
                step, total, step / total * 3, loss, lr, norm, TOKENS + noise.randrange(-200, 200), 7300, round(took, 4),
                step > first, int((11.2 + 0.7 * min(1, step / 40)) * GIB),
            ),
            took,
        )  # fmt: skip
        if step % every == 0:
            value = held_out(step) if held_out else loss_at(step, total, random.Random(f"{tape.seed} {step}")) + 0.06
            best = _evaluate(tape, step, value, best, total)


def _evaluate(tape: Tape, step: int, value: float, best: float, total: int) -> float:
    is_best = value < best
    tape.add(ev.Evaluated(step, value, 91_204, 4.1, is_best), 4.1)
    tape.add(ev.CheckpointSaved(step, f"checkpoints/step-{step:06d}", is_best, 0.3), 0.3)
    answers = _LATE if step > total * 0.25 else _EARLY
    for prompt, answer in list(zip(PROMPTS, answers, strict=True))[:3]:
        tape.add(ev.Sampled(step, prompt, answer), 1.1)
    return min(best, value)


def finish(tape: Tape, total: int, *, passed: bool = True) -> None:
    """Everything after training, with gates passed or one failed."""
    base, tuned = 2.281, 1.412 if passed else 2.274
    tape.step("evaluate", 96.4, "held-out loss 2.281 → " + f"{tuned:.3f}")
    end = tape.envelopes.pop()
    tape.add(ev.HeldOut("val", 839, 91_204, base, tuned, 0.512, 0.668 if passed else 0.514))
    tape.add(ev.HeldOut("test", 838, 90_811, 2.304, tuned + 0.03, 0.508, 0.661 if passed else 0.511))
    for number, (prompt, early, late) in enumerate(zip(PROMPTS, _EARLY, _LATE, strict=True)):
        reasons = ("repeats itself",) if number in (2, 3) else ()
        tape.add(ev.Answered(prompt, early, late if passed else early, reasons, () if passed else reasons))
    tape.add(end.event)
    tape.step("pack", 2.2, "artifacts/support")
    end = tape.envelopes.pop()
    tape.add(ev.Packed("artifacts/support", "peft_adapter", 9_542_310))
    tape.add(end.event)
    tape.add(ev.StepStarted("gates"))
    fell = (base - tuned) / base * 100
    tape.add(
        ev.GateJudged(
            "held-out loss", "passed" if passed else "failed", fell, 1.0, "% below the base model's loss",
            f"held-out loss 2.2810 before, {tuned:.4f} after, on 91204 tokens of 839 rows",
            "" if passed else "train longer or raise train.lr",
        )
    )  # fmt: skip
    tape.add(
        ev.GateJudged(
            "throughput jitter", "passed", 0.042, 0.2, "spread of the time per token over its median",
            "53443 tokens/s in the middle of 1203 steps, evaluations and checkpoints left out",
        )
    )  # fmt: skip
    first_bad = f"; the first that is not, to {PROMPTS[2]!r}: repeats itself"
    tape.add(
        ev.GateJudged(
            "curated answers", "passed" if passed else "failed", 1.0 if passed else 0.5, 0.7,
            "share of curated prompts answered reasonably",
            "4 of 4 answers are reasonable" if passed else "2 of 4 answers are reasonable" + first_bad,
            "" if passed else "read the answers in the report; lower train.lr or add rows",
        )
    )  # fmt: skip
    tape.add(ev.StepFinished("gates", "done", 0.1, "3 passed" if passed else "1 passed, 2 failed"), 0.1)
    tape.add(ev.RunFinished(0 if passed else 3), 0.01)


def train_ended(tape: Tape, steps: int, best_step: int, best_loss: float) -> None:
    tape.add(ev.TrainEnded(steps, best_step, best_loss, steps * 0.22, steps * TOKENS, int(11.9 * GIB)))
    tape.add(
        ev.StepFinished(
            "train", "done", steps * 0.22, f"{steps:,} steps, best held-out loss {best_loss:.3f} at step {best_step:,}"
        )
    )


# --------------------------------------------------------------------------------------------------- the recordings


def _running(tape: Tape) -> None:
    begin(tape, 1204)
    tape.add(ev.StepStarted("train"))
    train(tape, 1204, last=387, every=100)
    tape.add(ev.MemoryRanOut(388, "training", "smaller pieces", 16_384, 8_192), 1.1)
    train(tape, 1204, first=388, last=412, every=100)


def _finished(tape: Tape) -> None:
    begin(tape, 1204)
    tape.add(ev.StepStarted("train"))
    train(tape, 1204)
    train_ended(tape, 1204, 1200, 1.412)
    finish(tape, 1204)


def _gate_failed(tape: Tape) -> None:
    begin(tape, 240)
    tape.add(ev.StepStarted("train"))
    train(tape, 240, held_out=lambda step: 2.281 - 0.00003 * step)
    train_ended(tape, 240, 240, 2.274)
    finish(tape, 240, passed=False)


def _stopped(tape: Tape) -> None:
    begin(tape, 1204)
    tape.add(ev.StepStarted("train"))
    train(tape, 1204, last=640)
    tape.add(ev.StopAcknowledged("save"), 0.1)
    tape.add(ev.CheckpointSaved(641, "checkpoints/step-000641", False, 0.3), 0.4)
    tape.add(ev.StepFinished("train", "stopped", 151.0))
    tape.add(ev.RunStopped("save", 641), 0.1)


def _crashed(tape: Tape) -> None:
    begin(tape, 1204)
    tape.add(ev.StepStarted("train"))
    train(tape, 1204, last=530)


def _failed(tape: Tape) -> None:
    begin(tape, 1204)
    tape.add(ev.StepStarted("train"))
    train(tape, 1204, last=130)
    tape.add(ev.StepFinished("train", "failed", 31.0))
    tape.add(
        ev.RunFailed(
            "out of GPU memory at step 131: one conversation of 4,096 tokens needs 17.1 GiB, 15.2 are free",
            "set data.max_seq_len to 3072 or less, then resume the run", 4,
        )
    )  # fmt: skip


def _diverged(tape: Tape) -> None:
    begin(tape, 600)
    tape.add(ev.StepStarted("train"))
    train(tape, 600, last=86, spoil=lambda step, loss: loss + max(0, step - 70) ** 1.6 * 0.11 if step < 86 else math.nan)
    tape.add(ev.TrainingDiverged(86, "loss", math.nan), 0.1)
    tape.add(ev.StepFinished("train", "failed", 22.0))
    tape.add(
        ev.RunFailed(
            "training diverged: the loss at step 86 is not a number", "lower train.lr (it is 0.002), then start again", 3
        )
    )


def _early_stopped(tape: Tape) -> None:
    begin(tape, 1204)
    tape.add(ev.StepStarted("train"))
    train(tape, 1204, last=700, every=100, held_out=lambda step: 1.42 + abs(step - 400) / 2500)
    tape.add(ev.EarlyStopped(700, 400, 1.42, 3), 0.1)
    train_ended(tape, 700, 400, 1.42)
    finish(tape, 1204)


def _resumed(tape: Tape) -> None:
    begin(tape, 1204)
    tape.add(ev.StepStarted("train"))
    train(tape, 1204, last=412, every=100)
    tape.attempt, tape.time = 2, tape.time + 3600
    tape.add(ev.AttemptStarted(51207, "support", MODEL, "qlora_nf4", True, GPU))
    for name, seconds in (("validate", 0.4), ("plan", 0.0), ("model", 0.2), ("preprocess", 0.1)):
        tape.step(name, seconds, "nothing changed", "unchanged")  # type: ignore[arg-type]
    tape.add(ev.StepStarted("train"))
    tape.add(ev.Resumed(400), 11.0)
    train(tape, 1204, first=401, last=760, every=100, seconds=0.3)


def _starting(tape: Tape) -> None:
    tape.add(ev.AttemptStarted(41822, "support", MODEL, "qlora_nf4", True, GPU))
    tape.step("validate", 0.4, "8,412 rows of chat_messages, GPU 0 with 15.2 GiB free")
    tape.step("plan", 1.1, "≈ micro-batch 16 × 6, 1,204 steps")
    tape.add(ev.StepStarted("model"))
    tape.add(ev.StepProgress("model", 812 << 20, 2200 << 20, "bytes", "model.safetensors"), 9.0)


def _prepared(tape: Tape) -> None:
    begin(tape, 1204)
    first = tape.envelopes[0]
    tape.envelopes[0] = Envelope(1, first.time, 1, ev.AttemptStarted(41822, "support", MODEL, "qlora_nf4", False, GPU))
    for name in STEP_NAMES[4:]:
        tape.add(ev.StepFinished(name, "skipped", 0.0, "skipped: training is off"))
    tape.add(ev.RunFinished(0))


def _nasty(tape: Tape) -> None:
    """Text that would take over a careless terminal."""
    begin(tape, 40)
    tape.add(ev.StepStarted("train"))
    train(tape, 40, last=20, every=40)
    tape.add(
        ev.Sampled(
            20, "\x1b[2J\x1b]0;owned\x07[bold red]clear[/]", "\x1b[31mred\x1b[0m \u202eevil\u202c [@click=app.quit]x[/] 日本語"
        )
    )
    tape.add(ev.Note("\x1b[2J[red]not markup[/red] \x07"))


def _long(tape: Tape) -> None:
    begin(tape, 120_000)
    tape.add(ev.StepStarted("train"))
    train(tape, 120_000, last=100_000, every=5000, seconds=0.05)


@dataclass(frozen=True)
class Recording:
    make: Callable[[Tape], None]
    live: bool = False  # shown with its lock held
    train: dict[str, Any] = field(default_factory=dict)  # settings that are not the defaults
    output: str = ""
    project: str = "support"


_TRACEBACK = """\
Loading checkpoint shards: 100%|██████████| 2/2 [00:03<00:00]
[rank0]: CUDA error: an illegal memory access was encountered
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
terminate called after throwing an instance of 'c10::AcceleratorError'
  what():  CUDA error: an illegal memory access was encountered
Fatal Python error: Aborted
"""

RECORDINGS: dict[str, Recording] = {
    "running": Recording(_running, live=True, output="Loading checkpoint shards: 100%|██████████| 2/2 [00:03<00:00]\n"),
    "finished": Recording(_finished),
    "gate_failed": Recording(_gate_failed, train={"lr": 5e-6, "epochs": 0.6}),
    "stopped": Recording(_stopped, train={"lora": {"r": 64, "alpha": 128}}),
    "crashed": Recording(_crashed, output=_TRACEBACK),
    "failed": Recording(_failed),
    "diverged": Recording(_diverged, train={"lr": 2e-3, "lora": {"r": 64, "alpha": 128}}),
    "early_stopped": Recording(_early_stopped),
    "resumed": Recording(_resumed, live=True),
    "starting": Recording(_starting, live=True),
    "prepared": Recording(_prepared),
    "nasty": Recording(_nasty, output="\x1b[31mcoloured\x1b[0m\r\x1b]0;title\x07progress 10%\rprogress 20%\n"),
    "long": Recording(_long),
}
SHORT: tuple[str, ...] = tuple(name for name in RECORDINGS if name != "long")


def write(
    workspace: Workspace, name: str, *, run_id: str | None = None, project: str | None = None, until: float | None = None
) -> RunFolder:
    """The recording `name` as a run folder.

    Args:
        run_id: default: the time the recording begins.
        until: shift all times so that the last event happens then (seconds since 1970).
    """
    recording = RECORDINGS[name]
    tape = Tape(seed=name)
    recording.make(tape)
    shift = until - tape.time if until else 0.0
    started = datetime.fromtimestamp(START + shift)
    project = project or recording.project
    run = RunFolder(workspace.project(project) / (run_id or started.strftime("%Y-%m-%d_%H-%M-%S")))
    run.path.mkdir(parents=True)
    config = Config.model_validate({"project": project, "train": recording.train})
    write_json(run.config, config.to_json())
    write_json(run.meta, {"humigence": "0.1.0", "recording": name})
    run.events.write_text("".join(line + "\n" for line in _lines(tape.envelopes, shift)), encoding="utf-8")
    run.output_log.write_text(recording.output, encoding="utf-8")
    return run


def _lines(envelopes: Iterable[Envelope], shift: float) -> Iterator[str]:
    for envelope in envelopes:
        yield to_line(Envelope(envelope.seq, envelope.time + shift, envelope.attempt, envelope.event))


if __name__ == "__main__":
    for number, wanted in enumerate(sys.argv[2:] or SHORT):
        print(write(Workspace(Path(sys.argv[1]).resolve()), wanted, run_id=f"2025-11-{22 - number:02d}_09-31-04").path)
