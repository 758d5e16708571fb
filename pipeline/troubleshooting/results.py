"""What came out: evaluation, package, answers."""

from __future__ import annotations

from pipeline.troubleshooting.trouble import Trouble

TROUBLES = (
    Trouble(
        (
            "run … has no trained adapter",
            "project … has no trained adapter",
            "nothing is trained with … as it is now",
            "…: no step was trained yet",
        ),
        "No finished training answers to the settings as they are.",
        "`humigence train --train`, with `--resume` when it was stopped.",
    ),
    Trouble(
        (
            "there is nothing to judge: the trained model has not been evaluated",
            "run … has not been evaluated; its cards would be empty",
            "run … has not been evaluated",
        ),
        "Gates and cards need the evaluation.",
        "`humigence eval`.",
    ),
    Trouble(
        ("a suite of lm-eval is asked for, and lm-eval is not installed",),
        "Tasks of lm-eval are an extra: it brings many libraries.",
        '`pip install "humigence[lm-eval]"`, or take the suite out of `eval.suites`.',
    ),
    Trouble(
        (
            "…: lm-eval … has no such task",
            "…: its data can't be had: …",
            "…: it can't be run here: …",
            "eval.lm_eval_tasks: no folder …",
        ),
        "The task has another name, its data set is not on this machine and can't be fetched, or it asks for what is not here.",
        "`lm-eval ls tasks` lists the tasks; look at the network, `HF_HUB_OFFLINE` and `HF_TOKEN`, and into lm-eval's own guide.",
    ),
    Trouble(
        ("memory ran out while one sequence of … was scored",),
        "A single sequence of the task is longer than what fits beside the model.",
        "Free memory on this device, set `compute.gpu` to `cpu`, or leave the suite out.",
    ),
    Trouble(
        (
            "… is a file, and the package goes into a folder of that name",
            "… is not empty and is no package of Humigence's (humigence.json is missing)",
        ),
        "Packing replaces its own folder only.",
        "Move it away, or set `export.artifacts_dir`.",
    ),
    Trouble(
        ("… holds no packaged adapter", "… is damaged", "… is missing", "there is no packaged model to talk to yet"),
        "Nothing was packaged, or a file of the package is gone.",
        "`humigence pack` makes it from the newest run.",
    ),
    Trouble(
        ("merging …: the sum is no finite number of type …",),
        "The adapter holds numbers that are none, or its sum with the base exceeds the largest number of the base's type.",
        "Train again with a lower `train.lr`; from a base model in bfloat16 where the type is float16.",
    ),
    Trouble(
        ("merging …: it is of type …", "… ends too early"),
        "The base model's weights are no plain numbers of 16 or 32 bits, or its file changed since training.",
        "`humigence model check`; merge into the model that was trained on.",
    ),
    Trouble(
        ("the base model … is not at … any more", "the base model … is not on this machine"),
        "An adapter needs the base model it was trained on.",
        "Put it back, set `base.path` in the package's `humigence.json`, or `humigence model download`.",
    ),
    Trouble(
        (
            "the prompt is empty",
            "there is no prompt",
            "…: there is no prompt in it",
            "the prompt is longer than … characters",
            "the conversation is … tokens long, with an answer of … more than the model's …",
        ),
        "The model can't answer that.",
        "Ask something shorter, or allow shorter answers.",
    ),
    Trouble(("no model is loaded",), "The chat was asked before a model was there.", "Load one first (chat does so by itself)."),
)
