"""Hundreds of random faults in a row over one training run: `python -m tests.faults.soak --faults 200 --seed 1`.

The run is killed, stopped, damaged, starved of disk and moved, and resumed each time, until the faults are used up and it may
end. What it leaves must be an untroubled run's to the bit. Prints a line a fault; exits 1, the folder kept, when it is not.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.common.errors import HumigenceError
from pipeline.runner import launch
from pipeline.runs import control, store
from tests import tiny
from tests.faults.declared import survives
from tests.faults.disks import mounted, unmount
from tests.faults.workers import Project, Workers, when

_TRAINING: dict[str, Any] = {
    "epochs": 40,
    "save_every_steps": 2,
    "eval_every_steps": 20,
    "early_stopping": {"enabled": False},
}


class Soak:
    """One training run and everything that happens to it.

    Args:
        place: an empty folder; the run's disk is mounted in it where this user may mount.
    """

    def __init__(self, place: Path, workers: Workers, seed: int, **training: Any) -> None:
        self.model = tiny.save_model(place / "model")
        self.workers, self.random = workers, random.Random(seed)
        self.training = _TRAINING | training
        self.disk = mounted(place / "disk")
        root = self.disk.path if self.disk else place / "disk"
        (root / "here").mkdir(parents=True)
        self.untroubled = self._project(place / "untroubled")
        self.project = self._project(root / "here")
        self.told = Counter[str]()
        self._deeds: list[Callable[[], object]] = [
            self.killed_at_a_step, self.killed_in_a_save, self.killed_at_any_time, self.killed_at_any_time, self.asked_to_stop,
            self.aborted, self.hung_up, self.a_request_in_the_folder, self.a_damaged_checkpoint, self.a_torn_log,
            self.a_spoiled_cache, self.a_lost_gpu, self.an_edited_data_file, self.litter, self.moved,
        ]  # fmt: skip
        if self.disk:
            self._deeds += [self.a_full_disk, self.a_full_disk_in_a_save]

    def _project(self, root: Path) -> Project:
        return Project(root, self.model, self.workers, train=self.training)

    def run(self, faults: int, say: Callable[[str], object] = print) -> bool:
        """Let `faults` faults happen, then let the run end; whether it ended as the untroubled one."""
        assert self.untroubled.to_its_end() in (0, 3), self.untroubled.run.output_log.read_text()[-2000:]
        self._one("the first start", self.killed_at_a_step, say)
        while sum(self.told.values()) < faults:
            deed = self.random.choice(self._deeds)
            self._one(deed.__name__.replace("_", " "), deed, say)
        ended = self._resumed()
        say(f"the run ended with {ended} after {self.project.state.attempt} attempts: {dict(self.told)}")
        return ended in (0, 3) and self.project.left_behind() == self.untroubled.left_behind()

    def _one(self, name: str, deed: Callable[[], object], say: Callable[[str], object]) -> None:
        began = time.monotonic()
        deed()
        self.told[name] += 1
        step = self.project.state.step
        say(f"{sum(self.told.values()):4}  {name:<28} step {step:4}   {time.monotonic() - began:5.1f} s")

    # ------------------------------------------------------------------------------------------------- attempts

    def _resumed(self, *faults: dict[str, Any]) -> int:
        begun = bool(store.runs_of(self.project.workspace))
        return self.project.to_its_end(*faults, resume=begun)

    def _soon(self) -> dict[str, Any]:
        """A step that comes soon after the one it resumes from."""
        return when("train_step", step=self._from() + self.random.randint(1, 5))

    def _from(self) -> int:
        state = self.project.state if store.runs_of(self.project.workspace) else None
        return (state.saved_step or 0) if state else 0

    def _save_soon(self) -> dict[str, Any]:
        return {"in_save": (self._from() // 2 + self.random.randint(1, 2)) * 2}

    def killed_at_a_step(self) -> None:
        self._resumed(self._soon() | {"do": "signal", "signal": signal.SIGKILL})

    def killed_in_a_save(self) -> None:
        self._resumed(self._save_soon() | {"do": "signal", "signal": signal.SIGKILL})

    def killed_at_any_time(self) -> None:
        self.project.start(resume=True)
        until, last = time.monotonic() + self.random.uniform(0, 3), self._from() + 8
        while time.monotonic() < until and self.project.state.step < last:
            time.sleep(0.01)
        self.workers.kill()

    def asked_to_stop(self) -> None:
        self._resumed(self._soon() | {"do": "signal", "signal": self.random.choice((signal.SIGTERM, signal.SIGINT))})

    def aborted(self) -> None:
        moment = self.random.choice((self._soon(), self._save_soon()))
        self._resumed(*(moment | {"do": "signal", "signal": each} for each in (signal.SIGTERM, signal.SIGINT)))

    def hung_up(self) -> None:
        moment = self._soon()
        self._resumed(moment | {"do": "signal", "signal": signal.SIGHUP}, moment | {"do": "signal", "signal": signal.SIGTERM})

    def a_request_in_the_folder(self) -> None:
        self.project.start(resume=True)
        self.project.wait_for_step(self._from() + 1)
        control.request_stop(self.project.run, self.random.choice(("save", "abort")))
        self.workers.exit_status()

    def a_lost_gpu(self) -> None:
        self._resumed(self.random.choice((self._soon(), self._save_soon())) | {"do": "lose_the_gpu"})

    def a_full_disk(self) -> None:
        self._starved(self._soon())

    def a_full_disk_in_a_save(self) -> None:
        self._starved(self._save_soon())

    def _starved(self, moment: dict[str, Any]) -> None:
        assert self.disk is not None
        self.project.start(moment | {"do": "fill", "file": str(self.disk.filler)}, resume=True)
        self.project.wait_for_pause()
        if self.random.random() < 0.3:
            self.workers.kill()
            self.disk.make_room()
            return
        self.disk.make_room()
        self.project.wait_for_step(self.project.state.step + 1)
        control.request_stop(self.project.run, "save")
        self.workers.exit_status()

    # ------------------------------------------------------------------------------------ between two attempts

    def a_damaged_checkpoint(self) -> None:
        folder = max(self.project.run.checkpoints.glob("step-*"), default=None)
        if folder is None:
            return self.killed_at_a_step()
        path = self.random.choice(sorted(folder.iterdir()))
        how = self.random.choice(("cut", "flip", "lost"))
        data = bytearray(path.read_bytes())
        if how == "lost":
            path.unlink()
        elif how == "cut":
            path.write_bytes(data[: self.random.randrange(len(data))])
        else:
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
            path.write_bytes(data)
        return self.killed_at_a_step()

    def a_torn_log(self) -> None:
        with self.project.run.events.open("ab") as file:
            file.write(self.random.choice((b'{"v": 1, "seq": 99', b"\x00" * 5000, b"\n\n", b"\xff\xfe\n{}\n")))
        self.killed_at_a_step()

    def a_spoiled_cache(self) -> None:
        (self.project.run.path / "state.cache").write_bytes(self.random.randbytes(300))
        self.killed_at_a_step()

    def an_edited_data_file(self) -> None:
        whole = self.project.rows.read_bytes()
        self.project.rows.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
        self.killed_at_a_step()
        self.project.rows.write_bytes(whole)

    def litter(self) -> None:
        run = self.project.run
        for name in (".step-000002.abcdefgh.tmp", ".step-000004.gone"):
            (run.checkpoints / name).mkdir(parents=True, exist_ok=True)
            (run.checkpoints / name / "optimizer.safetensors").write_bytes(b"half")
        run.stop_request.write_text("save\n")  # an answer to an attempt that is over
        self.killed_at_a_step()

    def moved(self) -> None:
        """As when the folder is copied to another machine: another path, and locks that nobody there holds."""
        old = self.project.root
        new = old.with_name(f"{'there' if old.name == 'here' else 'here'}")
        shutil.copytree(old, new)
        shutil.rmtree(old)
        self.project.move_to(new)
        self.killed_at_a_step()


@survives(
    "soak",
    "200 random faults in a row over one training run: every kind of death, stop, damage, full disk and move of this table",
    "chosen at random, by a seed",
    "weights, optimizer and curves end as an untroubled run's, to the bit (`make soak`; a dozen of them in the suite)",
)
def soak(place: Path, workers: Workers, *, faults: int, seed: int, say: Callable[[str], object] = print, **training: Any) -> bool:
    """Whether the run ended as an untroubled one."""
    made = Soak(place, workers, seed, **training)
    try:
        return made.run(faults, say)
    finally:
        workers.end_all()
        if made.disk:
            unmount(made.disk.path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    place, workers, began = Path(tempfile.mkdtemp(prefix="humigence-soak-")), Workers(), time.monotonic()
    launch.spawn_worker = workers.spawn  # type: ignore[assignment]
    try:
        same = soak(place, workers, faults=arguments.faults, seed=arguments.seed)
    except (AssertionError, HumigenceError) as error:
        print(f"✘ {error}; the folder is {place}", file=sys.stderr)
        return 1
    finally:
        workers.close()
    words = "✔ ended as the untroubled run, to the bit" if same else f"✘ ended otherwise than the untroubled run; see {place}"
    print(f"{words}: {arguments.faults} faults, seed {arguments.seed}, {(time.monotonic() - began) / 60:.0f} minutes")
    if same:
        shutil.rmtree(place)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
