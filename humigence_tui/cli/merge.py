"""`humigence merge`: the packaged adapter and its base in one model."""

from __future__ import annotations

import shlex

import typer

from humigence_tui.cli.shared.options import DEFAULT_CONFIG, AsJson, ConfigPath, with_config, workspace
from humigence_tui.cli.shared.output import print_next_commands
from humigence_tui.cli.shared.single_step import run_step, trained_run
from pipeline.config import file as config_file
from pipeline.config.schema import Config
from pipeline.runs.folders import MERGED

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def merge(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> int:
    """A model that needs neither adapter nor base, for vLLM, llama.cpp or transformers alone, beside the packaged adapter.

    Works on the newest run whose training answers to the config; nothing is trained again. No GPU is needed, and little memory;
    only a GGUF base is loaded whole, in 4 bytes a weight. With export.formats peft_adapter,merged every run makes one.
    """
    code = run_step("pack", config, as_json, trained_run(config), change=with_merged)
    settings = config_file.load(config, workspace().root)
    folder = shlex.quote(f"{settings.export.artifacts_dir}/{settings.project}/{MERGED}")
    print_next_commands(f"vllm serve {folder}", with_config("export gguf_q8_0", config))
    return code


def with_merged(config: Config) -> Config:
    """The config with the merged model among what is packaged."""
    formats = tuple(dict.fromkeys((*config.export.formats, "merged")))
    return config.model_copy(update={"export": config.export.model_copy(update={"formats": formats})})
