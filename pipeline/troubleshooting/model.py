"""The base model as it lies on this machine: files, shape, tokenizer, chat template."""

from __future__ import annotations

from pipeline.troubleshooting.trouble import Trouble

TROUBLES = (
    Trouble(
        ("model.local_path: … is not there",),
        "The path does not exist here.",
        "`humigence config set model.local_path PATH`; `null` takes `model.repo` from the hub.",
    ),
    Trouble(
        (
            "the base model … is not on this machine…",
            "the base model … is not on this machine completely: …",
            "the sizes of … are not known before it is here",
        ),
        "It was not downloaded yet, or not completely.",
        "`humigence model download`.",
    ),
    Trouble(
        ("…: … is not a usable base model", "…: … is a file and does not end in .gguf"),
        "Files are missing, damaged, pickled or need code of their own; each reason is told below.",
        "`model.local_path` takes a Hugging Face folder with safetensors weights, or a .gguf file.",
    ),
    Trouble(
        (
            "…: … of the GGUF file that change the computation would not be used: …",
            "…: … of the GGUF file that change the computation would not be used: … and … more",
            "…: rope_freqs.weight scales its rotary embedding in a way that cannot be told from the file",
        ),
        "The file says something of the model that transformers' reader of GGUF files passes over (a window, a soft cap, a "
        "scaled rotary embedding, a bias): what would train is another model. Llama 3's rotary scaling is used.",
        "Take the Hugging Face folder the file was made from; for a question about one entry, its name is in the message.",
    ),
    Trouble(
        (
            "…: damaged or cut short",
            "…: not a GGUF file",
            "…: GGUF version … (or big-endian) cannot be read; 2 and 3 can",
            "model.safetensors.index.json is damaged",
            "…: cannot be read as JSON (…)",
            "…: not a JSON object",
            "…: … is missing, so the size of the model is not known",
            "…: ….… is missing, so the size of the model is not known",
            "…: … weights are missing or of another shape, … first",
            "…: the weights in … can't be read: …",
            "… is damaged: … is not what the hub announced",
        ),
        "A file is not what it should be: a download was cut, a disk failed, or it is another format.",
        "Fetch or copy it again; `humigence model check` looks, with `--contents` at every byte.",
    ),
    Trouble(
        (
            "…: describes … parameters, the weights hold …",
            "…: … is …, which is no size of a model",
            "…: ….… is …, which is no size of a model",
            "… is no package of ours: …",
        ),
        "The files describe another model than they hold, or one that can't be: they are not what they are said to be.",
        "Fetch the model again from where it was published; use nothing from a source you don't trust.",
        raised_in=("pipeline/base_model/shape.py",),
    ),
    Trouble(
        ("… is not the base model that run … trains: … changed since it began",),
        "Other weights or another tokenizer lie under the same name than when the run began.",
        "Put them back to go on; `humigence pipeline --train` starts a new run with what is there now.",
    ),
    Trouble(
        ("… is quantized already",),
        "An adapter is trained on the weights the quantized model was made from.",
        "Choose the original model.",
    ),
    Trouble(
        (
            "…: has no fast tokenizer (tokenizer.json)",
            "…: its tokenizer can't be read from …: …",
            "…: its tokenizer is not read from …: …",
            "…: its special tokens can't be used: …",
            "…: its special tokens can't be told from text",
        ),
        "Rows can't be turned into tokens so that each character is known to belong to one of them.",
        "Choose a model that ships a tokenizer.json.",
    ),
    Trouble(
        (
            "…: its tokenizer has no chat template",
            "data.template: … has no chat template of its own",
            "data.template: … needs the special token …, which … does not have",
        ),
        "A base model without a chat template does not know how a conversation is written.",
        "Choose a named template with `data.template`, or an instruct version of the model.",
    ),
    Trouble(
        (
            "…: its chat template can't be used: …",
            "…: can't be trained with its chat template: …",
            "…: can't be trained with the chat template … (data.template): …",
            "the chat template ends the assistant's turn with no special token, so nothing teaches it to stop",
            "it has no generation prompt, so nothing tells where an answer begins (add_generation_prompt)",
        ),
        "With this chat template it is not certain which tokens are the assistant's.",
        "Choose another template with `data.template`, or another base model.",
    ),
    Trouble(
        (
            "data.template: … cannot be read: …",
            "data.template: … is empty",
            "data.template: … is longer than … MiB",
        ),
        "`data.template` is taken for the path of a Jinja file, because a dot or a slash stands in it.",
        "Give the path of the file, or a name: `humigence config keys` lists them.",
    ),
    Trouble(
        ("data.thinking: the chat template of … has no switch for thinking",),
        "The template takes none of the arguments that switch thinking on and off.",
        "`humigence config set data.thinking auto`, or another template or model.",
    ),
    Trouble(
        (
            "…: its tokenizer gives ids up to …, and the embedding of the model has … rows",
            "…: its special token … has the id …, and the embedding has … rows",
            "…: config.json pads with the id …, and the embedding has … rows",
            "the chat template writes a special token that the model's embedding has no row for",
        ),
        "Tokenizer and weights do not belong together, or tokens were added without giving them rows.",
        "Take the tokenizer that the model was trained with, or a version of the model with the added rows.",
    ),
    Trouble(
        ("…: the model's tokenizer does not give the text back: …",),
        "Decoding what was encoded gives another text: what is missing would be missing from all that is trained.",
        "Choose a base model whose vocabulary has the characters of your text; where the tokenizer is read as another class than "
        "its `tokenizer.json` describes, set `tokenizer_class` in its `tokenizer_config.json`.",
    ),
    Trouble(
        ("data.max_seq_len: … is longer than the … positions of the model",),
        "The model never saw positions so far.",
        "`humigence config set data.max_seq_len N` with the number that is told.",
    ),
    Trouble(
        (
            "train.lora.target_modules: there is no linear layer …; the model has …",
            "train.lora.target_modules: no adapter can go on … (…); the model has …",
            "train.lora: no layer of … can have an adapter",
        ),
        "Layers are called differently in different models, and no adapter goes on the output head, on experts and what chooses "
        "among them, or on what sees images.",
        "`humigence config set train.lora.target_modules all-linear`, or names that the message gives.",
    ),
    Trouble(
        (
            "…: transformers … does not know the architecture …",
            "…: transformers … does not know the architecture …; the model was saved with transformers …",
        ),
        "The model is newer than the installed transformers.",
        "`pip install -U transformers`, or another base model.",
    ),
    Trouble(
        (
            "…: … is an encoder with a decoder, not a decoder that continues a text",
            "…: transformers … has no model of … that continues a text…",
            "…: transformers … has no model of … that continues a text alone, only together with images",
            "…: … has no embedding and head of tokens to train between",
            "…: its attention sees what follows, so it does not continue a text",
            "… uses the weight of … outside of its layer, which no precision mode allows for",
        ),
        "The model is of another kind than those that are trained here: decoders that continue a text, made of linear layers.",
        "Choose a causal language model.",
    ),
    Trouble(
        ("…: transformers … makes no model of its config: …", "…: cannot be read as a model's config (…)"),
        "`config.json` is damaged, or describes a model that there can't be.",
        "`humigence model check`, or another base model.",
    ),
    Trouble(
        ("…: no adapter for this model: …",),
        "The adapter was trained on another base model.",
        "Use the base model its `adapter_config.json` names.",
    ),
)
