"""What code a result depends on, as a short hash: a result of other code is not one of this.

Comments, docstrings and layout do not count. Of a module count those that it imports, directly or not, in the parts of
the project that make a result.
"""

import ast
import hashlib
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

COUNTS = ("zoo.relaxations", "zoo.models", "zoo.data", "zoo.training.optim", "zoo.training.module", "zoo.lab.study")
"""What makes results, by the beginning of the name; the rest of the project carries them."""
MACHINERY = tuple(
    f"zoo.lab.study.{name}" for name in ("answers", "page", "plan", "protocol", "rows", "running", "statistics")
)
"""Of the study what comes after the runs."""


def fingerprint(*modules: str) -> str:
    """Of these modules and what they import, eight hexadecimal digits.

    Args:
        modules: of the project or from outside, by their full names.
    """
    found: dict[str, str] = {}
    left = list(modules)
    while left:
        module = left.pop()
        if module in found or (path := source(module)) is None:
            continue
        text, imported = read(path)
        found[module] = text
        left += [name for name in imported if counts(name)]
    whole = "\n".join(f"{module}\n{found[module]}" for module in sorted(found))
    return hashlib.sha256(whole.encode()).hexdigest()[:8]


def counts(module: str) -> bool:
    return module.startswith(COUNTS) and module not in MACHINERY and module != "zoo.lab.study.fingerprint"


@cache
def source(module: str) -> Path | None:
    """The file of a module, without importing it; None if it has none."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@cache
def read(path: Path) -> tuple[str, tuple[str, ...]]:
    """What the code of a file says, and the modules of the project that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported += [defined(node.module, alias.name) for alias in node.names]
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body[0] = ast.Pass()
    return dumped(tree), tuple(name for name in imported if name.startswith("zoo."))


def dumped(tree: ast.AST) -> str:
    """The tree as Python 3.11 writes it: a later version must not make every run a stranger's."""
    if sys.version_info >= (3, 13):
        text = ast.dump(tree, show_empty=True)
    else:
        text = ast.dump(tree)
    return text.replace(", type_params=[]", "")


@cache
def defined(module: str, name: str) -> str:
    """The module that ``from module import name`` takes it from, through what a package's ``__init__`` hands on."""
    if source(f"{module}.{name}") is not None:
        return f"{module}.{name}"
    path = source(module)
    if path is not None and path.name == "__init__.py" and module.startswith("zoo."):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
                return defined(node.module, name)
    return module
