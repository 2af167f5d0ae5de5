"""The house rules that no linter knows: sizes, names, and what importing a module may bring along."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("models", "connectors", "worker")
_MODULES = sorted(path for package in _PACKAGES for path in (_ROOT / package).rglob("*.py"))
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)

# These modules are about Celery; whoever imports them wants it.
_ABOUT_CELERY = {"worker.app", "worker.tasks", "worker.consumer"}

# These are networks; whoever loads one imports them.
_ABOUT_TORCH = {
    "models.encoders.timm_networks.conv_stem",
    "models.encoders.stain.macenko",
    "models.encoders.pytorch.openvino_module",
    "models.encoders.stain.ranks",
    "models.encoders.stain.directions",
    "models.encoders.vit.network",
}

# Alembic runs these itself, and finds them by file.
_MIGRATIONS = _ROOT / "worker" / "ledger" / "migrations"

# Prints which heavy module each import brought along; all in one process, the innocent stay innocent in any order.
_PROBE = """
import importlib, sys
heavy = {"torch", "tensorflow", "celery"}
for name in sys.argv[1:]:
    importlib.import_module(name)
    found = heavy & set(sys.modules)
    if found:
        print(name, *sorted(found))
        heavy -= found
"""


def _name(path: Path) -> str:
    return path.relative_to(_ROOT).as_posix()


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, _FUNCTION):
            yield node


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef, *, command: bool) -> int:
    """Count from ``def`` to the end, without the docstring; of a command without its options, a line each, too."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    for each in (node for node in ast.walk(function) if command and isinstance(node, _FUNCTION)):
        total -= len(
            {argument.lineno for argument in ast.walk(each.args) if isinstance(argument, ast.arg)} - {each.lineno}
        )
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return [name for name in names if name not in {"self", "cls"}]


def test_there_is_something_to_check() -> None:
    """The packages are found where they are looked for."""
    assert {path.relative_to(_ROOT).parts[0] for path in _MODULES} == set(_PACKAGES)


@pytest.mark.parametrize("path", _MODULES, ids=_name)
def test_module_is_small(path: Path) -> None:
    """No module has more than 400 lines, and each says in its first line what it is."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)), "no docstring"


@pytest.mark.parametrize("path", _MODULES, ids=_name)
def test_functions_are_small(path: Path) -> None:
    """No function has more than 40 lines besides its docstring; a command has one more for each of its options."""
    lines = {one.name: _lines(one, command="cli" in path.parts) for one in _functions(path)}
    assert {name: count for name, count in lines.items() if count > 40} == {}


@pytest.mark.parametrize("path", [path for path in _MODULES if "cli" not in path.parts], ids=_name)
def test_functions_have_few_parameters(path: Path) -> None:
    """No function has more than six parameters; a command has one for each of its options."""
    found = [f"{one.name}: {len(_parameters(one))}" for one in _functions(path) if len(_parameters(one)) > 6]
    assert found == []


def test_modules_are_nouns() -> None:
    """No module or package has a name that could hold anything."""
    parts = {part for path in _MODULES for part in path.relative_to(_ROOT).with_suffix("").parts}
    assert parts & {"utils", "util", "helpers", "helper", "common", "manager", "misc"} == set()


def test_imports_are_light() -> None:
    """Importing any module brings neither torch nor TensorFlow nor Celery along, unless it is about that."""
    names = []
    for path in _MODULES:
        if not path.is_relative_to(_MIGRATIONS):
            dotted = ".".join(path.relative_to(_ROOT).with_suffix("").parts)
            names.append(dotted.removesuffix(".__init__"))
    light = sorted(set(names) - _ABOUT_CELERY - _ABOUT_TORCH)
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *light], cwd=_ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
