"""Objects from plain configuration, and plain configuration from objects.

A configuration is a nested dict. A dict with the key ``_target_`` stands for an object: the dotted
path of its class, the other keys its keyword arguments. The signature of the class is the schema:
unknown, missing and ill-typed arguments are found before anything is built.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from zoo.config.moved import present, up_to_date
from zoo.config.trust import WHOLE, Trust
from zoo.errors import ZooError, did_you_mean, one_line

Config = dict[str, Any]
Kind = TypeVar("Kind", bound=type)
BUILT_FROM = "_built_from"
"""The attribute with the configuration of an object whose class is not :class:`Configurable`."""
PUBLIC = re.compile(r"zoo\.(models\.)?\w+")
"""The packages of the zoo whose classes a saved configuration may name: its own, and each room of ``models``."""
BUILT_LATER = "built_later"
"""The attribute of a class that names those of its arguments that stay configurations, as it builds them itself, each
with the names of the arguments that it adds: ``{"wrappers": ("env",)}``. They are checked like all others."""


class Configurable:
    """Remembers the keyword arguments it was made with, so that it can be written down and made again."""

    arguments: Config
    """Every argument of the constructor, defaults included."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            setattr(cls, "__init__", _remember(cls.__dict__["__init__"]))  # noqa: B010


def _remember(init: Any) -> Any:
    signature = inspect.signature(init)

    @wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        if "arguments" not in self.__dict__:  # the outermost constructor's, not that of a base class
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            arguments = dict(list(bound.arguments.items())[1:])
            object.__setattr__(self, "arguments", arguments)
        init(self, *args, **kwargs)

    return wrapped


def remember(cls: Kind) -> Kind:
    """Let objects of ``cls``, any class, remember the arguments of their constructor; a class decorator.

    What :func:`from_config` builds needs none of this: the configuration is remembered. It is for objects that are made
    by hand, as in a notebook, and their class is not :class:`Configurable`.
    """
    init: Any = getattr(cls, "__init__")  # noqa: B009
    if issubclass(cls, Configurable) or BUILT_FROM in getattr(init, "__dict__", {}):
        return cls
    signature = inspect.signature(init)

    @wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self).__init__ is wrapped:  # not that of a class that derives from it, whose arguments are others
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            _note(self, {"_target_": public_path(type(self)), **dict(list(bound.arguments.items())[1:])})
        init(self, *args, **kwargs)

    setattr(wrapped, BUILT_FROM, True)
    setattr(cls, "__init__", wrapped)  # noqa: B010
    return cls


def _note(value: Any, config: Config) -> None:
    """Write down on ``value`` of what it was built, where that is possible."""
    with suppress(AttributeError, TypeError):
        object.__setattr__(value, BUILT_FROM, config)


def to_config(value: Any) -> Any:
    """The plain configuration of ``value``: the inverse of :func:`from_config`.

    Raises:
        ZooError: if ``value`` or one of its arguments is neither plain data, nor :class:`Configurable`, nor built by
            :func:`from_config`, nor of a class that remembers.
    """
    if isinstance(value, Configurable):
        cls = type(value)
        return {"_target_": public_path(cls), **{name: _argument(cls, name, v) for name, v in value.arguments.items()}}
    if isinstance(value, dict):
        return {name: to_config(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_config(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if config := getattr(value, "__dict__", {}).get(BUILT_FROM):
        return {name: _argument(type(value), name, v) for name, v in config.items()}
    if isinstance(value, type):
        raise ZooError(f"{value.__name__} is a class, and an object is needed: {value.__name__}(...)")
    raise ZooError(
        f"a {type(value).__name__} cannot be written to a configuration: give plain data, such as a number, let a "
        f"configuration build it (_target_={public_path(type(value))}), or decorate its class with @zoo.remember"
    )


def _argument(cls: type, name: str, value: Any) -> Any:
    try:
        return to_config(value)
    except ZooError as error:
        raise ZooError(f"{cls.__name__}.{name}: {error}") from error


def public_path(cls: type) -> str:
    """``zoo.models.cat_vae.CatVAE`` for a class that a package around it exports, else its full path."""
    parts = cls.__module__.split(".")
    packages = [".".join(parts[:length]) for length in range(2, len(parts))]
    exporting = (package for package in packages if getattr(sys.modules.get(package), cls.__name__, None) is cls)
    return f"{next(exporting, cls.__module__)}.{cls.__qualname__}"


def from_config(
    config: Any, *, where: str = "config", trust: Trust | None = None, objects: Config | None = None
) -> Any:
    """Build what ``config`` describes, innermost objects first.

    Args:
        config: nested plain data.
        where: name of this node in error messages, such as ``model``.
        trust: of a configuration of unknown origin, whose classes it may name: an arbitrary one would be arbitrary
            code. Its reader has checked the rest by :meth:`Trust.check_config`. None for the caller's own
            configuration, which may name any.
        objects: more keyword arguments of the outermost class, already built and not checked.

    Raises:
        ZooError: for an unknown class or argument, a missing argument, a value of the wrong type, or a
            value that the constructor refuses.
    """
    check_config(config, where=where, trust=trust, given=tuple(objects or ()))
    return _build(config, where, objects)


def _build(config: Any, where: str, objects: Config | None = None) -> Any:
    if isinstance(config, list):
        return [_build(item, f"{where}[{i}]") for i, item in enumerate(config)]
    if not isinstance(config, dict):
        return config
    config = up_to_date(config)
    cls = locate(config["_target_"], where) if "_target_" in config else None
    later = getattr(cls, BUILT_LATER, {})
    values = {
        key: value if key in later else _build(value, f"{where}.{key}")
        for key, value in config.items()
        if key != "_target_"
    }
    if cls is None:
        return values
    hints = _hints(cls)
    values = {key: _fitted(value, hints.get(key)) for key, value in values.items()}
    try:
        built = cls(**values, **(objects or {}))
    except Exception as error:
        plain = isinstance(error, ZooError) or (isinstance(error, (ValueError, TypeError)) and ours(config["_target_"]))
        raise ZooError(f"{where}: {error if plain else one_line(error)}") from error
    if not isinstance(built, Configurable):
        _note(built, config)
    return built


def _fitted(value: Any, hint: Any) -> Any:
    """``value`` of a configuration, which has lists and texts alone, as the tuple or path that ``hint`` asks for."""
    kinds = [get_origin(kind) or kind for kind in (hint, *get_args(hint))]
    if isinstance(value, list) and tuple in kinds and list not in kinds:
        return tuple(value)
    if isinstance(value, str) and Path in kinds and str not in kinds:
        return Path(value)
    return value


def ours(path: object) -> bool:
    """Whether the class with the dotted ``path`` is one of this project."""
    return present(path).split(".")[0] == "zoo"


def check_config(config: Any, *, where: str = "config", trust: Trust | None = None, given: Sequence[str] = ()) -> None:
    """Check ``config`` against the signatures of its classes without building anything.

    Args:
        config, where, trust: as for :func:`from_config`.
        given: arguments of the outermost class that whoever builds it adds.

    Raises:
        ZooError: as :func:`from_config`, but for what only a constructor can refuse.
    """
    if isinstance(config, list):
        for i, item in enumerate(config):
            check_config(item, where=f"{where}[{i}]", trust=trust, given=given)
    if not isinstance(config, dict):
        return
    cls = _check_arguments(config, where, trust, given) if "_target_" in config else None
    later = getattr(cls, BUILT_LATER, {})
    for key, value in config.items():
        check_config(value, where=f"{where}.{key}", trust=trust, given=later.get(key, ()))


def _check_arguments(config: Config, where: str, trust: Trust | None, given: Sequence[str]) -> Any:
    """Check the names and types of the arguments of one object, and return its class."""
    config = up_to_date(config)
    cls = locate(config["_target_"], where, trust=trust)
    if not callable(cls):
        raise ZooError(f"{where}._target_={config['_target_']!r} is a {type(cls).__name__}, which builds nothing.")
    known, title = accepts(cls), getattr(cls, "__name__", str(cls))
    hints, names = _hints(cls), _named(cls)
    for key, value in config.items():
        if key == "_target_":
            continue
        if known is not None and key not in known:
            raise ZooError(
                f"{where} has no option {key!r}.{did_you_mean(key, known)} "
                f"Options of {title}: {', '.join(known) or 'none'}."
            )
        if isinstance(value, int) and abs(value) >= WHOLE:
            raise ZooError(f"{where}.{key}={short(value)} is not valid: no option is a number of that size.")
        if key in hints and not _is_object(value):
            _check_type(value, hints[key], f"{where}.{key}")
    there = (*config, *given)
    missing = [name for name, p in names.items() if p.default is inspect.Parameter.empty and name not in there]
    if missing:
        raise ZooError(f"{where} lacks {', '.join(missing)}, which {title} needs.")
    return cls


def accepts(cls: Any) -> list[str] | None:
    """The names of the arguments that ``cls`` takes; None where it takes any, or does not say."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (ValueError, TypeError):  # of some that are written in C
        return None
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else list(_named(cls))


def _named(cls: Any) -> dict[str, inspect.Parameter]:
    try:
        parameters = inspect.signature(cls).parameters
    except (ValueError, TypeError):
        return {}
    return {name: p for name, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


def _hints(cls: Any) -> Config:
    try:
        return get_type_hints(getattr(cls, "__init__") if isinstance(cls, type) else cls)  # noqa: B009
    except Exception:  # names that only type checkers see, and whatever else is written there
        return {}


def with_defaults(config: Config) -> Config:
    """``config`` of one object with the arguments it leaves to their defaults, where those are plain data."""
    defaults = {}
    for name, parameter in _named(locate(config["_target_"], "config")).items():
        if parameter.default is not inspect.Parameter.empty:
            with suppress(ZooError):
                defaults[name] = to_config(parameter.default)
    return defaults | config


def _is_object(value: Any) -> bool:
    """Whether ``value`` describes an object or holds one: its type is checked by its own signature."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (isinstance(value, dict) and "_target_" in value) or any(_is_object(item) for item in items)


def _check_type(value: Any, hint: Any, where: str) -> None:
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # the hint brings its own pydantic settings
        adapter = TypeAdapter(hint)
    except PydanticSchemaGenerationError:
        return
    try:
        adapter.validate_python(_fitted(value, hint), strict=True)
    except ValidationError as error:
        reasons = "; or ".join(dict.fromkeys(e["msg"][0].lower() + e["msg"][1:] for e in error.errors()))
        raise ZooError(f"{where}={short(value)} is not valid: {reasons}.") from error


def short(value: Any) -> str:
    """``value`` for an error message: of what is long, the beginning."""
    shortener = Repr()
    shortener.maxstring = shortener.maxother = 200
    shortener.maxlist = shortener.maxtuple = shortener.maxdict = 20
    text = shortener.repr(value)
    return text if len(text) <= 600 else f"{text[:600]}..."


def locate(path: Any, where: str, *, trust: Trust | None = None) -> Any:
    """The class with the dotted ``path``, which may be that of an earlier version.

    Raises:
        ZooError: if there is none; with ``trust``, if it is not of a package that is trusted, or not one of the
            public parts of this project.
    """
    path = present(path)
    module, _, name = path.rpartition(".")
    refused = ZooError(f"{where}: refusing to build {path!r}, which is not a model, net or relaxation of this project.")
    own = ours(path)
    if trust is not None:
        trust.check(path, where)
        if own and not PUBLIC.fullmatch(module):
            raise refused
    try:
        package = import_named(module)
        cls = getattr(package, name, None) if trust is not None and own else getattr(package, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ZooError(
            f"{where}._target_={path!r} cannot be imported: {error}{import_advice(error, module)}"
        ) from error
    except Exception as error:  # whatever the module of a user raises
        raise ZooError(f"{where}._target_={path!r} cannot be imported: {one_line(error)}") from error
    if trust is not None and own and not (name in getattr(package, "__all__", ()) and is_part(cls)):
        raise refused
    if trust is not None and not own:
        if not isinstance(cls, type):
            raise ZooError(f"{where}: refusing {path!r}, which is not a class")
        trust.check(f"{cls.__module__}.{cls.__qualname__}", where)  # a package may have imported it from anywhere
    return cls


def import_named(module: str) -> Any:
    """The module ``module``, which was named by the user or is trusted; also one in the working directory.

    Only such a module is looked for there: what this project itself imports could be replaced by a file that happens to
    lie there, or was put there by a stranger.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        first, here = module.split(".")[0], os.getcwd()
        beside = os.path.join(here, first)
        if error.name != first or here in sys.path or not (os.path.isdir(beside) or os.path.isfile(f"{beside}.py")):
            raise
    sys.path.append(here)
    importlib.invalidate_caches()
    return importlib.import_module(module)


def import_advice(error: BaseException, module: str) -> str:
    """What to do about a ``module`` that is missing, for the end of a message; else an empty string."""
    if isinstance(error, ModuleNotFoundError) and error.name == module.split(".")[0]:
        return f". Is {error.name} installed, in the working directory, or in PYTHONPATH?"
    return ""


def is_part(cls: Any) -> bool:
    """Whether ``cls`` is a class that remembers its arguments, so that a saved configuration may name it."""
    return isinstance(cls, type) and issubclass(cls, Configurable) and cls is not Configurable
