"""Every error code, read from the source itself, so that the documentation cannot forget one.

A code is a string literal that stands as the class attribute, argument, field, default or variable called `code`, in a
class of the two error trees or in anything with a parameter or field of that name.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("ledger", "attribution", "models", "migrations")
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class ErrorCode:
    """`meaning` and `next_step` are the source's own words, with … for what it fills in; empty where it has none."""

    code: str
    status: int | None
    meaning: str
    next_step: str
    module: str


@dataclass(frozen=True)
class _Callable:
    """Something one may call with a code: a class of error, a function, a struct with that field."""

    position: int | None  # of `code` among positional arguments
    detail: int  # of the detail among them
    base: str | None = None
    status: int | None = None
    next_step: str = ""


def error_codes(root: Path = ROOT) -> list[ErrorCode]:
    """All codes by name; where one is raised in several places, the first that says what it means."""
    modules = {path.relative_to(root): ast.parse(path.read_text(encoding="utf-8")) for path in _sources(root)}
    known = {name: each for tree in modules.values() for name, each in _callables(tree)}
    found: dict[str, ErrorCode] = {}
    for path, tree in modules.items():
        for each in _codes(tree, known, ".".join(path.with_suffix("").parts)):
            if each.code not in found or (each.meaning and not found[each.code].meaning):
                found[each.code] = each
    return [found[code] for code in sorted(found)]


def _sources(root: Path) -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((root / package).rglob("*.py"))


def _callables(tree: ast.AST) -> Iterator[tuple[str, _Callable]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name, _class(node)
        elif isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in node.args.args]
            if "code" in names and names[0] != "self":
                made = [call for call in ast.walk(node) if isinstance(call, ast.Call) and _keyword(call, "next_step")]
                base = _name(made[0]) if made else None
                yield node.name, _Callable(names.index("code"), 0, base)


def _class(node: ast.ClassDef) -> _Callable:
    fields = [
        each.target.id for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    ]
    status = next((value for name, value in _assigned(node.body) if name == "status" and isinstance(value, int)), None)
    base = node.bases[0].id if node.bases and isinstance(node.bases[0], ast.Name) else None
    steps = [_text(_keyword(call, "next_step")) for call in ast.walk(node) if isinstance(call, ast.Call)]
    return _Callable(
        position=fields.index("code") if "code" in fields else None,
        detail=fields.index("detail") if "detail" in fields else 0,
        base=base,
        status=status,
        next_step=next((step for step in steps if step), ""),
    )


def _codes(tree: ast.AST, known: dict[str, _Callable], module: str) -> Iterator[ErrorCode]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for name, value in _assigned(node.body):
                if name == "code" and isinstance(value, str):
                    meaning = (ast.get_docstring(node) or "").partition("\n")[0]
                    yield ErrorCode(value, _status(node.name, known), meaning, "", module)
        elif isinstance(node, ast.Call):
            yield from _of_call(node, known, module)
        elif isinstance(node, ast.FunctionDef):
            yield from (ErrorCode(code, None, "", "", module) for code in _in_function(node))


def _of_call(call: ast.Call, known: dict[str, _Callable], module: str) -> Iterator[ErrorCode]:
    name = _name(call)
    called = known.get(name, _Callable(None, 0))
    given = _keyword(call, "code")
    if given is None and called.position is not None and len(call.args) > called.position:
        given = call.args[called.position]
    codes = [each for each in _alternatives(given) if each.isidentifier()]
    detail = call.args[called.detail] if len(call.args) > called.detail else None
    status = _keyword(call, "status")
    number = (
        status.value if isinstance(status, ast.Constant) and isinstance(status.value, int) else _status(name, known)
    )
    next_step = _text(_keyword(call, "next_step")) or called.next_step
    yield from (ErrorCode(code, number, _text(detail), next_step, module) for code in codes)


def _alternatives(given: ast.expr | None) -> list[str]:
    """The codes that an argument may be: itself, or either branch of a condition."""
    match given:
        case ast.Constant(value=str(code)):
            return [code]
        case ast.IfExp(body=body, orelse=orelse):
            return [*_alternatives(body), *_alternatives(orelse)]
    return []


def _in_function(node: ast.FunctionDef) -> Iterator[str]:
    """Codes that are a parameter's default or a variable, used further down."""
    arguments = [*node.args.args, *node.args.kwonlyargs]
    defaults = [*[None] * (len(node.args.args) - len(node.args.defaults)), *node.args.defaults, *node.args.kw_defaults]
    for argument, default in zip(arguments, defaults, strict=True):
        if argument.arg == "code" and isinstance(default, ast.Constant) and isinstance(default.value, str):
            yield default.value
    for name, value in _assigned(list(ast.walk(node))):
        if name == "code" and isinstance(value, str) and value.isidentifier():
            yield value


def _status(name: str, known: dict[str, _Callable]) -> int | None:
    """A class's own HTTP status or that of the class it is derived from; for a function, of the error it makes."""
    seen: set[str] = set()
    while name in known and name not in seen:
        seen.add(name)
        if known[name].status is not None:
            return known[name].status
        name = known[name].base or ""
    return None


def _assigned(nodes: list[ast.stmt] | list[ast.AST]) -> Iterator[tuple[str, object]]:
    for node in nodes:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        ):
            yield node.targets[0].id, node.value.value


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _name(call: ast.Call) -> str:
    return (
        call.func.id
        if isinstance(call.func, ast.Name)
        else call.func.attr
        if isinstance(call.func, ast.Attribute)
        else ""
    )


def _text(node: ast.expr | None) -> str:
    """A string as written, with … for what is filled in; empty for anything else."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in values)  # type: ignore[misc]
        case ast.IfExp(body=body):
            return _text(body)
        case ast.BinOp(left=left, op=ast.Add()):
            return _text(left)
    return ""
