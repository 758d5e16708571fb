"""What the Hugging Face hub and the way to it answer."""

from __future__ import annotations

from pipeline.troubleshooting.trouble import Trouble

TROUBLES = (
    Trouble(
        ("there is no token for the hub", "the hub does not let this token write to …: …"),
        "`humigence push` needs a token that may write to the repository.",
        "`hf auth login` or `HF_TOKEN`, with a token of type Write, and a repository of your own.",
    ),
    Trouble(
        (
            "nobody can be asked whether to send it",
            "nothing was sent",
            "… holds no package of run …",
            "… holds no …",
            "… is not as it was packaged",
        ),
        "`humigence push` sends a packaged format as it was packaged, and asks before it does.",
        "`humigence export FORMAT RUN` packages it; `--yes` sends without asking.",
    ),
    Trouble(
        ("….repo: … is not a repository name (owner/name)", "….repo: the hub has no … …, or it is private"),
        "A spelling, or a private repository.",
        "Check owner/name; for a private one set `HF_TOKEN`.",
    ),
    Trouble(
        ("….revision: … has no revision …",),
        "No branch, tag or commit of that name.",
        "`humigence config set model.revision null`, or `data.hub.revision`, takes the main branch.",
    ),
    Trouble(
        ("….repo: … is gated",),
        "Its authors want their licence accepted first.",
        "Accept it on its page, then `hf auth login`, or set `HF_TOKEN`.",
    ),
    Trouble(
        (
            "….repo: the licence of … is not accepted by HF_TOKEN's account",
            "….repo: access to … is still in review by its authors",
        ),
        "The token is good, and its account has no access (yet).",
        "Accept the licence with that account; its page tells when access is granted.",
    ),
    Trouble(
        ("HF_TOKEN (or what hf auth login saved) is not a token the hub knows", "….repo: HF_TOKEN does not open …: …"),
        "The token is mistyped, withdrawn, or lacks the right to read this repository.",
        "Make a new one at https://huggingface.co/settings/tokens; or `unset HF_TOKEN`: what is open needs none.",
    ),
    Trouble(
        ("….repo: the authors of … have refused access",),
        "The account asked for access, and the authors said no.",
        "Choose another one; its page tells whom to ask.",
    ),
    Trouble(
        ("….repo: HF_TOKEN may not read gated repositories",),
        "A fine-grained token opens gated repositories only where it was given the right to.",
        "At https://huggingface.co/settings/tokens allow it to read public gated repositories, or make a token of type Read.",
    ),
    Trouble(("….repo: the hub has switched … off",), "The hub has withdrawn the repository.", "Choose another one."),
    Trouble(
        (
            "the base model … is not on this machine and HF_HUB_OFFLINE is set",
            "the data set … is not on this machine and HF_HUB_OFFLINE is set",
        ),
        "Nothing may be downloaded.",
        "`unset HF_HUB_OFFLINE`, or set `model.local_path`; for rows `data.source local` and `data.raw_path`.",
    ),
    Trouble(
        (
            "the data set … is not on this machine",
            "how many rows … has is not known before it is here",
            "… was downloaded and its files are not in the cache",
        ),
        "`data.source` is hub, and the rows were not fetched yet, or the cache was cleared since.",
        "`humigence data download`; a run fetches them by itself.",
    ),
    Trouble(
        ("data.hub.repo: no data set is named (data.source hub)", "data.source is …: there is nothing to download"),
        "A data set of the hub needs both: where the rows come from, and which.",
        "`humigence config set data.source hub`, `humigence config set data.hub.repo OWNER/NAME`.",
    ),
    Trouble(
        (
            "data.hub.repo: … has no file of rows that can be read (…)",
            "data.hub.repo: … has a loading script and no rows of its own; Humigence runs no script",
            "data.hub.repo: the card of … names rows outside of it: …",
        ),
        "Only files of rows are fetched: a script of a stranger is never run, a pickle never opened.",
        "`humigence config set data.hub.revision refs/convert/parquet` takes what the hub made of it, where it did.",
    ),
    Trouble(
        ("data.hub.…: … has several, say which: …", "data.hub.…: … has none called …: …"),
        "The data set has several subsets (configs) or splits; the message names them.",
        "`humigence config set data.hub.subset NAME`, `humigence config set data.hub.split NAME`.",
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
