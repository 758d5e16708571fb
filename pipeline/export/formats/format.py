"""What an export format declares (`FORMATS` of its file): how it is written, taken over from an older package, and spoken of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config.schema import ExportFormat
from pipeline.export.package import Package

Watch = Callable[[int], None]
"""Called with bytes as they are written; may raise to end the work."""


@dataclass(frozen=True)
class Written:
    """What a format left in a package's folder.

    Attributes:
        record: what `humigence.json` says of it under its name; empty for nothing.
        digests: name in the package -> sha256, of files whose digest is known already.
    """

    record: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reuse:
    """How a format is taken over from an older package instead of being written again.

    Attributes:
        ready: (older package, its manifest, package) -> whether what lies in it is what would be written, every byte.
        take: (folder, package, older package) -> as `Format.write`, of what is `ready` there.
    """

    ready: Callable[[Path, dict[str, Any], Package], bool]
    take: Callable[[Path, Package, Path], Written]


@dataclass(frozen=True)
class Format:
    """A format of `export.formats`; where it lies and what a form says of it is in `planning.export_formats`.

    Attributes:
        name: as in the config.
        title: what a person calls it, with "the" before it.
        doing: what making it is called, while it lasts.
        command: makes it of a result that is packaged already.
        needs_bytes: of disk, to write it beside the adapter; what `watch` is called with adds up to no more.
        write: fills its folder in the package at `folder`, which is new.
        reuse: how it is taken over; None for a format that is written each time.
        summary: of its record, a phrase for the end of the step.
        warning: of its record, a sentence a person should read; empty for none.
        is_current: of its record, whether making it again would find out no more.
    """

    name: ExportFormat
    title: str
    write: Callable[[Path, Package, Watch], Written]
    doing: str = "writing"
    command: str = "humigence pack"
    needs_bytes: Callable[[Package], int] = lambda package: 0
    reuse: Reuse | None = None
    summary: Callable[[dict[str, Any]], str] = lambda record: ""
    warning: Callable[[dict[str, Any]], str] = lambda record: ""
    is_current: Callable[[dict[str, Any]], bool] = lambda record: True
