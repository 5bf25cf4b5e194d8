"""The API's own schema, put in the order of a page. Nothing is said here that the schema does not say."""

from typing import Any, NamedTuple

GROUPS = ("Reading", "Writing", "Recovery", "Log", "Auditing", "Operation")


class Field(NamedTuple):
    name: str
    where: str
    required: bool
    about: str


class Described(NamedTuple):
    method: str
    path: str
    anchor: str
    summary: str
    about: str
    needs_key: bool
    fields: list[Field]
    bodies: list[str]
    answers: list[tuple[str, str]]


def operations(schema: dict[str, Any]) -> list[tuple[str, list[Described]]]:
    """Every operation of an OpenAPI 3.1 schema, by group, in the order of their paths."""
    grouped: dict[str, list[Described]] = {group: [] for group in GROUPS}
    for path, methods in sorted(schema["paths"].items()):
        for method, operation in methods.items():
            group = (operation.get("tags") or [GROUPS[-1]])[0]
            grouped.setdefault(group, []).append(_described(schema, path, method, operation))
    return [(group, found) for group, found in grouped.items() if found]


def _described(schema: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> Described:
    content = operation.get("requestBody", {}).get("content", {})
    fields = [
        Field(
            each["name"],
            each["in"],
            each.get("required", False),
            _about(each.get("schema", {}), each.get("description")),
        )
        for each in operation.get("parameters", [])
    ]
    for media in content.values():
        body = _resolved(schema, media.get("schema", {}))
        required = body.get("required", [])
        fields += [
            Field(name, "body", name in required, _about(_resolved(schema, value)))
            for name, value in body.get("properties", {}).items()
        ]
    return Described(
        method=method.upper(),
        path=path,
        anchor=f"{method}-{path.strip('/').replace('/', '-').replace('{', '').replace('}', '') or 'root'}",
        summary=operation.get("summary", ""),
        about=operation.get("description", ""),
        needs_key=bool(operation.get("security")),
        fields=fields,
        bodies=list(content),
        answers=[(status, answer.get("description", "")) for status, answer in sorted(operation["responses"].items())],
    )


def _about(schema: dict[str, Any], description: str | None = None) -> str:
    """Type and limits in one line of words."""
    choices = [each for each in schema.get("oneOf", [schema]) if each.get("type") != "null"] or [{}]
    merged = {**schema, **choices[0]}
    limits = [f"{word} {merged[key]:,}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in merged]
    kinds = merged.get("type", "")
    kind = kinds if isinstance(kinds, str) else " or ".join(each for each in kinds if each != "null")
    said = description or merged.get("description", "")
    return ". ".join(part.rstrip(".") for part in (" ".join([kind, *limits]).strip(), said) if part)


def _resolved(schema: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    reference = value.get("$ref")
    if reference is None:
        return value
    found: dict[str, Any] = schema["components"]["schemas"][reference.rsplit("/", 1)[-1]]
    return found
