"""The house: what may import what. Imports count wherever they stand, but for those that only type checkers see."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from zoo import hub

LEVELS = (
    ("errors", "signals"),
    ("files",),
    ("config",),
    ("relaxations",),
    ("data", "hub"),
    ("training",),
    ("models",),
    ("lab",),
    ("demo",),
    ("cli",),
    ("__main__",),
)
"""Each may import those above it and itself. ``zoo/__init__.py`` hands on what is public; nobody imports it."""
ROOT_IMPORTS = ("errors", "config", "hub", "training")
BESIDE_ROOMS = ("__init__", "agents", "chain", "experts", "layers", "likelihoods")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted((ROOT / "zoo").rglob("*.py"))}


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports below ``node``, without those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from statements(child)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of everything of the zoo that a file imports."""
    for statement in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        else:
            assert not statement.level, f"{path}:{statement.lineno}: a relative import"
            whole = [f"{statement.module}.{alias.name}" for alias in statement.names]
            names = [name if name in FILES else str(statement.module) for name in whole]
        yield from ((statement.lineno, name) for name in names if name.split(".")[0] == "zoo")


def level(module: str) -> int:
    part = module.split(".")[1]
    return next(i for i, parts in enumerate(LEVELS) if part in parts)


def room(module: str) -> str | None:
    """The room that ``module`` is in."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["zoo", "models"] and len(parts) > 2 and parts[2] not in BESIDE_ROOMS else None


def test_what_stands_at_the_top():
    files = {path.name for path in (ROOT / "zoo").glob("*.py")}
    assert files <= {"__init__.py", "__main__.py", "errors.py", "files.py", "signals.py"}
    packages = {path.parent.name for path in (ROOT / "zoo").glob("*/__init__.py")}
    assert packages == {part for parts in LEVELS for part in parts} - {"errors", "signals", "files", "__main__"}
    assert {path.stem for path in (ROOT / "zoo/models").glob("*.py")} == set(BESIDE_ROOMS)


def test_every_room_is_a_model_of_the_registry():
    rooms = {path.parent.name for path in (ROOT / "zoo/models").glob("*/__init__.py")}
    assert rooms == {room(entry.target.rpartition(".")[0]) for entry in hub.models().values()}


@pytest.mark.parametrize("module", FILES)
def test_imports_point_one_way(module):
    for line, imported in imports(FILES[module]):
        where = f"{FILES[module]}:{line}: {imported}"
        if module == "zoo":
            assert imported.split(".")[1] in ROOT_IMPORTS, where
            continue
        assert imported != "zoo", f"{where}: import from where it is"
        mine, other = module.split(".")[1], imported.split(".")[1]
        assert mine == other or level(imported) < level(module), where
        assert room(imported) in (None, room(module)) or level(module) > level(imported), f"{where}: another room"


def test_there_are_no_circles():
    """By modules. What a package's own ``__init__`` hands on is not imported from inside of it."""
    graph: dict[str, set[str]] = {module: {name for _, name in imports(path)} for module, path in FILES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for name in graph.get(module, ()):
                visit(name, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())
