"""What the Hugging Face hub and the way to it answer."""

from __future__ import annotations

from pipeline.troubleshooting.trouble import Trouble

TROUBLES = (
    Trouble(
        ("model.repo: … is not a repository name (owner/name)", "model.repo: the hub has no repository …, or it is private"),
        "A spelling, or a private repository.",
        "Check owner/name; for a private one set `HF_TOKEN`.",
    ),
    Trouble(
        ("model.revision: … has no revision …",),
        "No branch, tag or commit of that name.",
        "`humigence config set model.revision null` takes the main branch.",
    ),
    Trouble(
        ("model.repo: … is gated",),
        "Its authors want their licence accepted first.",
        "Accept it on the model's page, then `hf auth login`, or set `HF_TOKEN`.",
    ),
    Trouble(
        (
            "model.repo: the licence of … is not accepted by HF_TOKEN's account",
            "model.repo: access to … is still in review by its authors",
        ),
        "The token is good, and its account has no access (yet).",
        "Accept the licence with that account; the model's page tells when access is granted.",
    ),
    Trouble(
        ("HF_TOKEN (or what hf auth login saved) is not a token the hub knows", "model.repo: HF_TOKEN does not open …: …"),
        "The token is mistyped, withdrawn, or lacks the right to read this repository.",
        "Make a new one at https://huggingface.co/settings/tokens; or `unset HF_TOKEN`: open models need none.",
    ),
    Trouble(
        ("model.repo: the authors of … have refused access",),
        "The account asked for access, and the authors of the model said no.",
        "Choose another `model.repo`; the model's page tells whom to ask.",
    ),
    Trouble(
        ("model.repo: HF_TOKEN may not read gated repositories",),
        "A fine-grained token opens gated repositories only where it was given the right to.",
        "At https://huggingface.co/settings/tokens allow it to read public gated repositories, or make a token of type Read.",
    ),
    Trouble(("model.repo: the hub has switched … off",), "The hub has withdrawn the repository.", "Choose another `model.repo`."),
    Trouble(
        ("the base model … is not on this machine and HF_HUB_OFFLINE is set",),
        "Nothing may be downloaded.",
        "`unset HF_HUB_OFFLINE`, or set `model.local_path`.",
    ),
    Trouble(
        ("no connection to the hub for …: …", "the download of … is cut off again and again: …", "downloading … failed: …"),
        "The network is down, slow or firewalled.",
        "Check it, then start again: what was fetched is kept. Or copy the model here and set `model.local_path`.",
    ),
    Trouble(
        (
            "a web page… came instead of the hub's answer for … (status …)",
            "the proxy refuses the connection to the hub: …",
            "the proxy asks for a password",
        ),
        "A proxy or a login page stands between this machine and the hub.",
        "Open the hub in a browser here; set `HTTPS_PROXY=http://NAME:PASSWORD@PROXY:PORT`, or `HF_ENDPOINT` to your mirror.",
    ),
    Trouble(
        ("the hub's certificate is not trusted: …",),
        "A proxy opens the encryption, or the clock is wrong.",
        "Set `SSL_CERT_FILE` to your company's CA bundle; look at `date`.",
    ),
    Trouble(
        ("the hub refuses … for now: too many requests from here", "the hub failed on …: …"),
        "The hub is busy or down; it was asked several times.",
        "Wait, then start again: what was fetched is kept.",
    ),
    Trouble(
        ("… of … arrives damaged: …",),
        "What came is not what the hub announced, twice: something in between alters it.",
        "`unset HF_ENDPOINT` or use another network, then start again.",
    ),
    Trouble(
        ("… has no safetensors weights…", "… was downloaded and is not a usable base model: …"),
        "Only safetensors are fetched: pickles can run code when they are loaded.",
        "Choose another `model.repo`, or download a GGUF file and set `model.local_path`.",
    ),
    Trouble(
        ("the hub cache … cannot be written to", "the disk is full at …"),
        "The hub's cache lies on a disk that is full or read-only.",
        "Make room (`hf cache ls`), or `export HF_HOME=` a folder on another disk.",
    ),
)
