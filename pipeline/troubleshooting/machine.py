"""GPU, driver, memory and disk."""

from __future__ import annotations

from pipeline.troubleshooting.trouble import Trouble

TROUBLES = (
    Trouble(
        ("no GPU: …", "compute.gpu: GPU … is not there; …"),
        "No NVIDIA driver answers, or it has no such GPU, or `CUDA_VISIBLE_DEVICES` hides it.",
        "`humigence doctor` tells what is there; `humigence config set compute.gpu auto` chooses.",
    ),
    Trouble(
        ("compute.gpu: GPU … is there, but the installed torch is a CPU-only build",),
        "The CPU build of torch was installed.",
        "`humigence doctor` tells the command that installs the build for this driver.",
    ),
    Trouble(
        (
            "train.precision_mode: … needs …",
            "train.attention: varlen does not work here: …",
            "train.attention: the fused kernels have their own attention",
            "train.kernels: fused does not work here: …",
            "train.kernels: the fused ones do not work here: …",
        ),
        "The setting needs a newer card or a library that is not here.",
        "`humigence config set train.attention auto` (or `train.kernels auto`, `train.precision_mode lora_fp16`); "
        "`pip install bitsandbytes`.",
    ),
    Trouble(
        ("the package … is not installed",),
        "Humigence was installed without one of the libraries it stands on.",
        "`make install`, or the `pip install` that is told.",
    ),
    Trouble(
        ("the GPU failed: …",),
        "The card reported an error or fell off the bus.",
        "`nvidia-smi` and `dmesg` tell more; resume the run when the card answers again.",
    ),
    Trouble(
        (
            "… does not fit into the memory of …: its weights take about …",
            "… does not fit into the memory of …: its weights take about … and … were free before",
            "…: one row of … tokens with gradient checkpointing needs about … GiB and … GiB can be used (…)",
            "…: one row of … tokens without gradient checkpointing needs about … GiB and … GiB can be used (…)",
            "… of … tokens does not fit",
        ),
        "Weights, or one row, need more memory than is free.",
        "Set `train.precision_mode qlora_nf4`, a shorter `data.max_seq_len`, or a smaller model; free the GPU (`nvidia-smi`).",
    ),
    Trouble(
        (
            "memory ran out: …",
            "memory ran out in …: …",
            "memory ran out after … optimizer steps: …",
            "memory ran out while answering: … tokens of prompt, at most … of answer",
            "memory ran out while one conversation of … tokens was scored",
            "…: the plan's micro-batch of … rows finds no room",
            "memory ran out while merging …",
            "memory ran out while … was read; about … are needed",
            "merging into …: about … of memory are needed, … are free",
        ),
        "Even the smallest piece did not fit beside what else is on the device. What was trained is saved.",
        "The message names the setting; then `humigence pipeline --train --resume`.",
    ),
    Trouble(
        ("the process that measures …",),
        "The process that `humigence plan --measure` starts ended before it had an answer; its last lines stand below.",
        "`humigence doctor`; `humigence plan` without `--measure` needs no model and no GPU.",
    ),
    Trouble(
        (
            "the disk is full: …",
            "…: about … are needed, … are free at …",
            "the disk of … has … GiB free, about … GiB are needed",
        ),
        "No room for what is to be written.",
        "`humigence runs prune` and `hf cache ls` make room; then start again or resume.",
    ),
    Trouble(
        ("the name is too long: …", "links lead in a circle: …"),
        "The system takes no such path.",
        "Give another one; `ls -l` shows where links lead.",
    ),
    Trouble(
        ("the current folder is not there any more",),
        "It was deleted, or moved away, after this shell went into it.",
        "`cd` into a folder that is there.",
    ),
    Trouble(
        ("the name of a folder is not UTF-8: …",),
        "The libraries that write prepared data take no such path.",
        "`mv` the folder to another name; a run in it goes on there.",
    ),
    Trouble(
        ("too many files are open: …",),
        "This login allows too few open files; training takes some hundred.",
        "`ulimit -n 4096`, then start again or resume.",
    ),
    Trouble(
        ("no permission: …", "the file system is read-only: …", "… cannot be removed: …"),
        "This user may not write there.",
        "Give this user access, or work in a folder of yours.",
    ),
    Trouble(
        ("the disk failed (…): …", "the log of the run can't be written: …"),
        "The disk, or the network that carries it, does not answer.",
        "Copy what can be read to another disk; `dmesg` tells more.",
    ),
)
