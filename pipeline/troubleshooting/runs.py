"""Starting, resuming, stopping and removing runs."""

from __future__ import annotations

from pipeline.troubleshooting.trouble import Trouble

TROUBLES = (
    Trouble(
        (
            "project … is busy: run … is on (process …)",
            "project … is busy: another start is on (process …)",
            "… is busy: process … works in it",
            "… (…) is busy: process … trains on it",
            "run … is busy: another process writes its log, though its lock file is gone",
        ),
        "One run at a time works in a project and on a GPU.",
        "`humigence runs follow` watches it, `humigence runs stop` ends it; `--wait` queues behind it.",
    ),
    Trouble(
        (
            "no run … below …",
            "no run yet below …",
            "the name of a run is empty",
            "… fits … runs: …",
            "… is no run of this folder",
        ),
        "The name fits no run of this folder, or several.",
        "`humigence runs` lists them.",
    ),
    Trouble(
        ("run … is finished: there is nothing to resume", "run … never trained", "run … is not on"),
        "The run is not in a state in which this can be done.",
        "`humigence runs show RUN` tells its state.",
    ),
    Trouble(
        ("…: a run is named, but not what to do with it", "run … is not of the project in …"),
        "The arguments do not go together.",
        "`--resume RUN` goes on with a run; leave `--config` out, or name the run's own.",
    ),
    Trouble(
        ("the worker of run … did not start", "the worker of run … ended at once"),
        "Its process could not load, or was killed while it did.",
        "The run's `output.log` tells why; `humigence doctor` looks at the machine.",
    ),
    Trouble(
        (
            "the plan is for … and this is …",
            "the plan is for … rows and the prepared data makes …",
            "the plan names attention …; this version has …",
            "… is not there: the run has no plan",
            "…: not a training plan (…)",
        ),
        "The plan was made for other data, another device or another version.",
        "`humigence pipeline --train` plans anew; to resume, use the device it was planned for.",
    ),
    Trouble(
        ("no checkpoint below … is whole",),
        "Every checkpoint is cut short or altered; each has checksums of its own.",
        "Start the training again; a copy of the run folder from elsewhere can be resumed.",
    ),
    Trouble(
        ("training diverged at step …: the gradient norm is …", "training diverged at step …: … is …"),
        "The loss or a gradient is no finite number.",
        "Lower `train.lr`; with lora_fp16 try lora_bf16. The last checkpoint is from before.",
    ),
    Trouble(
        (
            "run … is not removed: …",
            "run … is on (process …): it is not removed",
            "a run of project … is being started",
            "… would be deleted, and nobody can be asked",
            "nothing was deleted",
        ),
        "Nothing is deleted that a live run or a package needs, or that nobody confirmed.",
        "Stop the run first; `--yes` deletes without asking.",
    ),
    Trouble(
        (
            "aborted in the middle of a step",
            "aborted while evaluating",
            "aborted while answering samples",
            "stopped before …",
            "stopped while preparing the data",
            "stopped while downloading",
            "stopped while evaluating",
            "stopped while writing",
            "stopped while …",
            "measuring was stopped",
            "stopped while waiting for the GPU",
            "stopped while the disk was full: … is not written",
            "stopped and saved after step …",
            "aborted at step …",
            "aborted at step …, before the first checkpoint",
            "cancelled",
        ),
        "You stopped it, or a signal did. Exit code 130.",
        "`--resume` goes on from the newest checkpoint; other steps start over.",
    ),
    Trouble(
        ("the folder of the run was deleted while it was on: …",),
        "Somebody removed it, or moved it elsewhere; `humigence runs rm` would have refused.",
        "Put it back where it was moved and resume, or start the training again.",
    ),
    Trouble(
        (
            "the queue is running already (process …)",
            "the queue is not running",
            "nothing waits in the queue",
            "nothing was started",
        ),
        "One process starts the queued runs of a folder; it ends when none is left.",
        "`humigence queue list` shows what waits; `humigence queue run --train` starts it.",
    ),
    Trouble(
        (
            "the process of the queue did not start",
            "the process of the queue ended at once",
            "the process of the queue is gone; … of its runs have not ended",
        ),
        "It could not load, or was killed. Runs that were on go on; no queued run is lost or started twice.",
        "`humigence queue run --train` goes on; `runs/.queue/output.log` tells what it printed.",
    ),
    Trouble(
        (
            "there is no queued run …",
            "queued run … is on: it is not removed",
            "queued run … does not wait: it has no place to change",
            "queue rm: which ones?",
            "the queue is empty: there is nothing to compare",
        ),
        "What was asked for fits no run of the queue, or not the state it is in.",
        "`humigence queue list` shows the numbers and states; `humigence runs stop RUN` ends one that is on.",
    ),
    Trouble(
        ("…: this is no queue (…)",),
        "Its file was altered, or the disk was damaged.",
        "Move `runs/.queue` away and queue anew; the runs that were started are in `humigence runs`.",
    ),
    Trouble(
        ("…: ten thousand runs in one second",),
        "The clock stands still, or something starts runs in a loop.",
        "Look at `date`; wait a second.",
    ),
    Trouble(
        ("a bug in humigence: …: …",),
        "Humigence did something wrong. Exit code 1.",
        "Report it with the run's `output.log`; `--debug` shows the traceback of a command.",
    ),
)
