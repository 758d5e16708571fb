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
        (
            "…: llama.cpp goes on after …, which ends an answer",
            "…: its template writes another prompt of a conversation",
            "…: its tokenizer makes another prompt of a conversation",
            "…: its files name other tokens that end an answer than were trained",
            "…: transformers could not open it: …",
            "…: llama.cpp makes another prompt of a conversation",
            "…: it could not be asked: …",
            "…: it gives no finite log-probabilities",
            "…: its log-probabilities of … answer tokens are … nat from base and adapter's on average (… is allowed), its loss "
            "is … and theirs … (+… is allowed)",
            "… formats were made and are not packaged",
        ),
        "The export was opened by the program it is for, and what that computes is not what base and adapter compute: the "
        "message says what differs.",
        "It is not packaged; the adapter and the other formats are. A format of more bits loses less; `merged` holds the same "
        "model for other programs.",
    ),
    Trouble(
        (
            "export.formats: …: …",
            "…: no GGUF file is made of it: …",
            "…: its tokenizer can't be written as GGUF: …",
            "…: llama.cpp has no place for …",
            "…: llama.cpp adds no DoRA adapter to a model as it computes",
            "its rotary embedding is a YaRN that llama.cpp has no settings for",
            "its attention is scaled as llama.cpp does not scale that of Gemma 3",
        ),
        "llama.cpp has nothing that computes, or cuts texts, as this base model does, or this version does not write its family.",
        "Take the GGUF formats out of `export.formats`; `merged` is made of every family.",
    ),
    Trouble(
        (
            "writing …: a weight is no finite number of type …",
            "writing …: it is of type …",
            "… has another size than its file says",
            "the rows of a query's or key's weight make no whole heads",
            "config.json has … …s for … pairs of features",
            "… does not say how many layers and heads it has",
        ),
        "The base model's files contradict themselves, or a number does not fit the type it is to be held in.",
        "`humigence model check`; where it is float16 that is too small, `gguf_bf16`.",
    ),
    Trouble(
        (
            "…: its layers hold their weights the other way round, and are not written in 8 bits",
            "…: its files have no weight of …, and it is not written in 8 bits",
            "… has … inputs, and eight-bit weights are packed four to a number",
        ),
        "The 8-bit forms know linear layers with a weight of (outputs, inputs), four inputs to a number.",
        "Take `runtime_int8` and `vllm_int8` out of `export.formats`; `merged` is made of every model.",
    ),
    Trouble(
        ("…: its chat template can't be said in Ollama's language: …",),
        "Ollama's `TEMPLATE` is made from who speaks and who spoke before. A chat template that counts turns, or writes a "
        "question twice, asks for more, and with another one the model would answer nonsense.",
        "Take `ollama` out of `export.formats`. A `gguf_…` file carries the template itself: for llama.cpp and LM Studio.",
    ),
    Trouble(
        ("… is no format…", "… is no format; did you mean …?", "no format is named"),
        "`humigence export` takes the formats that `export.formats` takes, several with commas.",
        "`humigence export --help` lists them.",
    ),
    Trouble(
        ("… names no run",),
        "The folder is a package whose `humigence.json` was changed, or was made before packages named their run.",
        "`humigence export FORMAT RUN`, with a run that `humigence runs` lists.",
    ),
    Trouble(
        ("the base model … is not at … any more", "the base model … is not on this machine"),
        "An adapter needs the base model it was trained on.",
        "Put it back, set `base.path` in the package's `humigence.json`, or `humigence model download`.",
    ),
    Trouble(
        ("… can't be made: …", "… holds no recipe of a run", "--run trains by a folder, and takes neither RUN nor --output"),
        "`humigence reproduce RUN` writes a new folder, and `--run FOLDER` trains by one that it wrote.",
        "`humigence reproduce RUN --output FOLDER`, then `humigence reproduce --run FOLDER`.",
    ),
    Trouble(
        ("… can't be written: …",),
        "The page of `humigence report` goes into a folder that is not there, or may not be written to.",
        "`humigence report RUN --output FILE`.",
    ),
    Trouble(
        ("llama.cpp is not installed here, which serves the model",),
        "`humigence serve` is llama.cpp's own server, which is an extra.",
        "`pip install 'humigence[gguf]'`.",
    ),
    Trouble(
        (
            "… can be reached by others, and there is no token",
            "…:… can't be listened on: …",
            "… was not open after … s",
            "… was not opened: …",
            "llama.cpp's server ended by itself (exit code …)",
        ),
        "The server could not be started, or has ended: another program has the port, the address is not this machine's, the "
        "file is large for the memory there is, or others could ask it.",
        "`--port` with another number or 0, a shorter `--context`, `--token` for another address than loopback.",
    ),
    Trouble(
        ("… is no GGUF file, and llama.cpp serves no other", "… is not there", "… holds no GGUF file"),
        "`humigence serve` serves a GGUF file, or that of a package.",
        "`humigence export gguf_q8_0` makes one.",
    ),
    Trouble(
        (
            "--top-p and --top-k choose whom chance may take, and a temperature of 0 leaves nothing to it",
            "--stop is empty",
        ),
        "An option of `humigence infer` or `chat` would change nothing, or end every answer at once.",
        "`--temperature 0.7` beside `--top-p` or `--top-k`; `--stop` with the text that ends an answer.",
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
