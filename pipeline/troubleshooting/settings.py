"""Config files, switches and arguments."""

from __future__ import annotations

from pipeline.troubleshooting.trouble import Trouble

TROUBLES = (
    Trouble(
        ("…: no such config file",),
        "There is no such file here, and none of that name is shipped.",
        "`humigence init` makes one; `humigence config set KEY VALUE` copies a shipped one here.",
    ),
    Trouble(
        ("…: … problems", "…: 1 problem"),
        "Keys are unknown, or values have the wrong type or are out of bounds. Each is told below with its dotted key.",
        "Mend all of them at once; `humigence config keys` lists every setting and what is allowed.",
    ),
    Trouble(
        (
            "…: line …, column …: …",
            "…: not UTF-8 at byte …",
            "…: nested too deeply",
            "…: a number is too long",
            "…: not usable: …",
            "…: a config is a JSON object, this is a …",
            "…: larger than … MiB, so not a config file",
            "…: cannot be read: …",
        ),
        "The file is not the JSON that was expected, or this user may not read it.",
        "Mend the place that is told; the config before the last change stands beside it as `.bak`.",
    ),
    Trouble(
        (
            "--set …: must be KEY=VALUE, or KEY=VALUE,VALUE",
            "--set …: a value is empty",
            "--set … is given twice",
            "--set: … and … are the same run",
            "--set: … of … runs can't be made",
            "--set makes … runs (…); at most … are queued at once",
            "nothing is queued: … of … runs can't be started",
        ),
        "A sweep makes a run of every combination of its values, each checked before any is queued.",
        "Leave out the values that are told, or give fewer; a comma stands between the values of a setting.",
    ),
    Trouble(
        (
            "…: no such file",
            "…: is no config of a trainer that is known",
            "…: calls nothing of Unsloth or TRL",
            "…: cannot be read as Python (…)",
        ),
        "`humigence config import` knows the configs of LLaMA-Factory and Axolotl, and scripts and notebooks of Unsloth and TRL.",
        "Give one of those; for rows there is `humigence data inspect`.",
    ),
    Trouble(
        ("dataset_info.json has … data sets: …", "dataset_info.json has no data set …: …"),
        "A `dataset_info.json` describes many data sets; one of them is imported.",
        "`humigence config import FILE --dataset NAME`.",
    ),
    Trouble(
        ("…: unknown key…",), "No setting has this name; the nearest one is told.", "`humigence config keys` lists the names."
    ),
    Trouble(
        ("… no longer means anything: …", "…: …, not …"),
        "A name or value of an older Humigence that has no counterpart today.",
        "Take it out, or set what the message names.",
        raised_in=("pipeline/config/file.py",),
    ),
    Trouble(
        ("…=…: must be 1 or true, 0 or false, or empty",),
        "A variable of the environment (`TRAIN`, `VALIDATION_ONLY`) is neither on nor off.",
        "`unset` it, or set it to 1 or 0.",
    ),
    Trouble(
        ("training was not asked for", "nothing was run"),
        "Training never starts unless it is asked for.",
        "Add `--train`, or set `TRAIN=1`; `TRAIN=0` forbids it.",
    ),
    Trouble(
        ("… problems",),
        "Several things stand against the run; each is told below with its own remedy.",
        "Mend them, then `humigence validate` looks again.",
    ),
    Trouble(
        ("…: … cannot be written to (…)",),
        "A folder of the settings is on a read-only disk, or belongs to somebody else.",
        "Set the key that is told to another folder, or take this one over with `chown`.",
    ),
    Trouble(
        ("no error is told with these words: …",),
        "`humigence errors` was asked for words that no error has.",
        "Fewer words; without any it lists all errors.",
    ),
    Trouble(
        ("no curated model has these words: …",),
        "`humigence model list` was asked for words that none of its models has.",
        "Fewer words; without any it lists all. Any other chat model of the hub goes too: set `model.repo`.",
    ),
    Trouble(
        ("the wizard needs …",),
        "The app draws on a terminal, and standard input or error is a file or a pipe.",
        "`humigence config set KEY VALUE` changes a setting without one; over ssh use `ssh -t`.",
    ),
)
