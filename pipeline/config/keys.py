"""Settings by dotted key: what each is, takes and defaults to, and the sections they stand in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from pipeline.config.schema import Config, Level, Result


@dataclass(frozen=True)
class Key:
    """One setting by its dotted name, as `config keys` lists it and a form shows it.

    Attributes:
        affects: results that are made anew when its value changes.
    """

    name: str
    default: Any
    help: str
    level: Level
    allowed: str
    affects: tuple[Result, ...]


def section_at(name: str) -> type[BaseModel] | None:
    """The section a dotted name stands for (`""` is the whole config), or None when it is not a section."""
    model: type[BaseModel] = Config
    for part in filter(None, name.split(".")):
        field = _field_of(model, part)
        if field is None or not _is_section(field):
            return None
        model = field.annotation  # type: ignore[assignment]  # checked by _is_section
    return model


def field_at(name: str) -> FieldInfo | None:
    """The field behind a dotted name, or None when there is none."""
    section, _, last = name.rpartition(".")
    model = section_at(section)
    return _field_of(model, last) if model else None


def _field_of(model: type[BaseModel], name: str) -> FieldInfo | None:
    return next((field for key, field in model.model_fields.items() if (field.alias or key) == name), None)


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def fields(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """The dotted name and the field of every setting, in the order of the sections."""
    for python_name, field in model.model_fields.items():
        name = prefix + (field.alias or python_name)
        if _is_section(field):
            yield from fields(field.annotation, name + ".")  # type: ignore[arg-type]  # checked by _is_section
        else:
            yield name, field


def every_key() -> Iterator[Key]:
    """Every setting in the order of the sections."""
    for name, field in fields():
        declared: dict[str, Any] = field.json_schema_extra  # type: ignore[assignment]  # by `schema.setting`
        yield Key(
            name, field.default, field.description or "", declared["level"], allowed_values(field), tuple(declared["affects"])
        )


def takes_a_list(field: FieldInfo) -> bool:
    """Whether a field takes several values, or may."""
    return any(schema.get("type") == "array" for schema in _branches(TypeAdapter(_annotated(field)).json_schema()))


def _branches(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return list(schema.get("anyOf", [schema]))


def allowed_values(field: FieldInfo) -> str:
    """What a field takes, as text: choices, or the type with its bounds."""
    if _is_section(field):
        return "an object"
    extra = field.json_schema_extra
    if isinstance(extra, dict) and extra.get("allowed"):
        return str(extra["allowed"])
    schema = TypeAdapter(_annotated(field)).json_schema()
    return _schema_text(schema)


def _annotated(field: FieldInfo) -> Any:
    annotation: Any = field.annotation
    for constraint in field.metadata:
        annotation = Annotated[annotation, constraint]
    return annotation


def _schema_text(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        # A bound on the whole union is repeated by pydantic in each branch it fits.
        return " or ".join(filter(None, (_schema_text(branch) for branch in schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        least = ", at least one" if schema.get("minItems") else ""
        return f"list of: {_schema_text(schema.get('items', {}))}{least}"
    names = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text", "null": "null"}
    name = names.get(schema.get("type", ""), "")
    if schema.get("minLength"):
        return f"{name}, not empty"
    bounds = [
        f"{sign} {_number_text(schema[key])}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in schema
    ]
    return f"{name} {' and '.join(bounds)}".strip()


def _number_text(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"
