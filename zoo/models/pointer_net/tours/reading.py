"""Problems from files: TSPLIB (``.tsp``, Reinelt 1995) and tables of coordinates (``.csv`` ...), also ``.gz``.

Own code, since of the published readers vrplib 2.2 leaves EUC_2D unrounded and knows neither GEO nor ATT, and tsplib95
0.7 is of 2020 and wants an older networkx. A section or a type that would change what is asked is refused, never left
out. Numbers are those of ASCII digits: no ``1_000``, no other alphabets, no ``nan``.
"""

import csv
import gzip
import io
import itertools
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from zoo.errors import ZooError, cause, did_you_mean
from zoo.models.pointer_net.tours.problem import EXPLICIT, METRICS, Problem

LARGEST = 100_000_000  # bytes of a file, unpacked
MOST = 100_000  # points
MATRIX = 5_000  # points of a matrix: 200 MB
LINES = 1_000_000
LINE = 10_000  # characters of a line of a table
Lines = list[tuple[int, str]]
"""Lines of a section by their numbers in the file."""
COLUMNS_AT_MOST = 50  # of a table with a heading
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eEdD][+-]?\d+)?", re.ASCII)
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eEdD][+-]?\d+)?", re.ASCII)
PLANE, SPACE = ("EUC_2D", "CEIL_2D", "FLOOR_2D", "MAN_2D", "MAX_2D", "ATT", "GEO"), ("EUC_3D", "MAN_3D", "MAX_3D")
HEADERS = (
    "NAME", "TYPE", "COMMENT", "DIMENSION", "EDGE_WEIGHT_TYPE", "EDGE_WEIGHT_FORMAT", "EDGE_DATA_FORMAT",
    "NODE_COORD_TYPE", "DISPLAY_DATA_TYPE", "CAPACITY",
)  # fmt: skip
HALVES = {
    "UPPER_ROW": (np.triu, 1),
    "LOWER_ROW": (np.tril, -1),
    "UPPER_DIAG_ROW": (np.triu, 0),
    "LOWER_DIAG_ROW": (np.tril, 0),
    "UPPER_COL": (np.tril, -1),
    "LOWER_COL": (np.triu, 1),
    "UPPER_DIAG_COL": (np.tril, 0),
    "LOWER_DIAG_COL": (np.triu, 0),
}
"""Half of a matrix, row by row: a half by columns is the other half by rows."""
COLUMNS = {
    "x": "x",
    "y": "y",
    "z": "z",
    "lat": "lat",
    "latitude": "lat",
    "lon": "lon",
    "lng": "lon",
    "long": "lon",
    "longitude": "lon",
}
NAMES = ("name", "id", "city", "label", "node", "index", "")


def read(path: Path, *, columns: Sequence[str] = (), distance: str | None = None) -> Problem:
    """The problem in a file.

    Args:
        path: TSPLIB where the name ends in ``.tsp`` or ``.tsp.gz``, else a table.
        columns: of a table, by their headings or numbers from 1: two coordinates, or names and two coordinates.
        distance: of a table, one of :data:`METRICS` in any case, by default ``euclid``; of a TSPLIB file its own.

    Raises:
        ZooError: if it cannot be read, or says what would not be honoured.
    """
    kind = None if distance is None else distance.upper()
    if kind is not None and (kind not in METRICS or METRICS[kind] == EXPLICIT or kind in SPACE):
        known = [name.lower() for name in METRICS if METRICS[name] != EXPLICIT and name not in SPACE]
        raise ZooError(
            f"there is no distance={distance}.{did_you_mean(distance or '', known)} It is one of {', '.join(known)}."
        )
    text = unpacked(path)
    bare = path.name.lower().removesuffix(".gz")
    if bare.endswith(".tsp"):
        if columns or kind:
            raise ZooError(f"columns= and distance= are for tables; {path.name} is a TSPLIB file, which says its own")
        problem = tsplib(path, text)
    else:
        problem = table(path, text, columns, kind)
    return problem


def check_count(path: Path, n: int, most: int, fewest: int = 2) -> None:
    """Refuse too few and too many points."""
    if n < fewest:
        raise ZooError(f"{path} has {n} point{'s' * (n != 1)}; a tour needs at least 2")
    if n > most:
        raise ZooError(f"{path} has {n:,} points; {most:,} are the most{' of a matrix' * (most == MATRIX)}")


def unpacked(path: Path) -> str:
    """The text of a file, also of a compressed one."""
    try:
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ZooError(f"cannot read points={path}: {cause(error)}") from error
    if len(raw) > LARGEST:
        raise ZooError(f"points={path} is too large: {LARGEST:,} bytes are the most")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ZooError(f"cannot read points={path}: it is not text in UTF-8 ({error})") from error


def lines_of(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, one after another: a list of many short ones takes far more than the file.

    Raises:
        ZooError: if there are more than :data:`LINES`.
    """
    for i, line in enumerate(io.StringIO(text, newline=None), 1):
        if i > LINES:
            raise ZooError(f"{path} has more than {LINES:,} lines")
        yield i, line.rstrip("\n")


def number(where: str, field: str, *, comma: bool = False) -> float:
    """The finite number that ``field`` is, with a decimal comma where ``comma`` says so."""
    text = field.strip()
    if comma and text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    if not NUMBER.fullmatch(text):
        if text.lstrip("+-").lower() in ("nan", "inf", "infinity"):
            raise ZooError(f"{where}: a number must be finite, got {field.strip()[:100]}")
        raise ZooError(f"{where}: {field.strip()[:100]!r} is not a number")
    value = float(text.lower().replace("d", "e"))  # Fortran's exponents
    if not math.isfinite(value):
        raise ZooError(f"{where}: a number must be finite, got {field.strip()[:100]}")
    return value


def short(text: str) -> str:
    """``text`` as a message can quote it."""
    return text if len(text) <= 100 else f"{text[:97]}..."


# TSPLIB ---------------------------------------------------------------------------------------------------------------


def tsplib(path: Path, text: str) -> Problem:
    """A symmetric problem."""
    header: dict[str, str] = {}
    sections: dict[str, Lines] = {}
    inside: Lines | None = None
    for line_number, line in lines_of(path, text):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key = short(re.split(r"[\s:]", line, maxsplit=1)[0].upper())
        if key == "EOF":
            break
        if key.endswith("_SECTION"):
            if key in sections:
                raise ZooError(f"{path}, line {line_number}: a second {key}")
            inside = sections.setdefault(key, [])
            if rest := line[len(key) :].strip(" \t:"):
                inside.append((line_number, rest))
        elif key in HEADERS:
            value = line[len(key) :].strip().removeprefix(":").strip()
            if key in header and key != "COMMENT":
                raise ZooError(f"{path}, line {line_number}: a second {key}")
            header[key], inside = short(value), None
        elif inside is not None:
            inside.append((line_number, line))
        elif ":" in line:
            raise ZooError(
                f"{path}, line {line_number}: {key} is not a keyword of TSPLIB.{did_you_mean(key, list(HEADERS))}"
            )
        else:
            raise ZooError(f"{path}, line {line_number}: expected KEYWORD : VALUE or a section, found {short(line)!r}")
    kind = (header.get("TYPE") or "TSP").split()[0].upper()
    if kind != "TSP":
        raise ZooError(f"{path} is of TYPE {kind}; only TSP, the symmetric problem, can be solved")
    known = ("NODE_COORD_SECTION", "EDGE_WEIGHT_SECTION", "DISPLAY_DATA_SECTION")
    for section, rows in sections.items():
        if section not in known and any(row != "-1" for _, row in rows):
            raise ZooError(f"{path} has a {section}, which cannot be honoured: solve it without, or by another solver")
    metric = header.get("EDGE_WEIGHT_TYPE", "").upper()
    if not metric:
        raise ZooError(f"{path} does not say its EDGE_WEIGHT_TYPE")
    if metric not in (*PLANE, *SPACE, "EXPLICIT"):
        raise ZooError(
            f"{path} has EDGE_WEIGHT_TYPE {metric}; these are known: {', '.join((*PLANE, *SPACE, 'EXPLICIT'))}"
        )
    if not re.fullmatch(r"\d{1,9}", header.get("DIMENSION", ""), re.ASCII):
        raise ZooError(f"{path} needs a DIMENSION, a whole number, and says {header.get('DIMENSION', 'none')}")
    n = int(header["DIMENSION"])
    check_count(path, n, MATRIX if metric == "EXPLICIT" else MOST)
    name = header.get("NAME") or path.name.split(".")[0]
    dimensions = 3 if metric in SPACE or header.get("NODE_COORD_TYPE", "").upper() == "THREED_COORDS" else 2
    points = display = matrix = None
    names = [str(i + 1) for i in range(n)]
    if rows := sections.get("NODE_COORD_SECTION", []):
        names, points = coordinates(path, "NODE_COORD_SECTION", rows, n, dimensions)
    if rows := sections.get("DISPLAY_DATA_SECTION", []):
        shown, display = coordinates(path, "DISPLAY_DATA_SECTION", rows, n, 2)
        if points is None:
            names = shown
        elif shown != names:
            raise ZooError(f"{path}: NODE_COORD_SECTION and DISPLAY_DATA_SECTION name other nodes")
    if metric == "EXPLICIT":
        matrix = weights(path, sections.get("EDGE_WEIGHT_SECTION", []), n, header.get("EDGE_WEIGHT_FORMAT", "").upper())
        if display is None and points is not None:
            display = points[:, :2]
    elif points is None:
        raise ZooError(f"{path} has EDGE_WEIGHT_TYPE {metric}, which needs a NODE_COORD_SECTION")
    elif "EDGE_WEIGHT_SECTION" in sections:
        raise ZooError(f"{path} has an EDGE_WEIGHT_SECTION beside EDGE_WEIGHT_TYPE {metric}: which of them counts?")
    elif metric not in SPACE and dimensions == 3:
        raise ZooError(f"{path} has points of three dimensions and EDGE_WEIGHT_TYPE {metric}, of two")
    return Problem(name, names, metric, points, matrix, display)


def coordinates(path: Path, section: str, rows: Lines, n: int, dimensions: int) -> tuple[list[str], np.ndarray]:
    """Names and coordinates ``(n, dimensions)``, one point a line; ``-1`` may end them."""
    if rows and rows[-1][1] == "-1":
        rows = rows[:-1]
    names: list[str] = []
    points: list[list[float]] = []
    for line, row in rows:
        where, words = f"{path}, line {line}", row.split(maxsplit=dimensions + 1)
        if len(words) != dimensions + 1:
            count = ("two", "three")[dimensions - 2]
            raise ZooError(f"{where}: expected a number and {count} coordinates: {short(row)!r}")
        names.append(words[0])
        points.append([number(where, word) for word in words[1:]])
    if len(names) != n:
        raise ZooError(f"{path} says DIMENSION {n} but its {section} has {len(names)} points: is it truncated?")
    if len(set(names)) != n:
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise ZooError(f"{path}: node {twice} is in its {section} twice")
    return names, np.array(points, dtype=np.float64).reshape(n, dimensions)


def weights(path: Path, rows: Lines, n: int, form: str) -> np.ndarray:
    """A matrix ``(n, n)`` from the numbers of an EDGE_WEIGHT_SECTION, wherever its lines end."""
    if form != "FULL_MATRIX" and form not in HALVES:
        raise ZooError(f"{path} has EDGE_WEIGHT_FORMAT {form or 'none'}, of an EXPLICIT matrix a format is needed")
    where = np.ones((n, n), dtype=bool)
    if form in HALVES:
        half, diagonal = HALVES[form]
        where = half(where, diagonal)
    count = int(where.sum())
    words = ((line, word.group()) for line, row in rows for word in re.finditer(r"\S+", row))
    some = itertools.islice(words, count + 2)  # enough to see that there are too many
    values = np.fromiter((number(f"{path}, line {line}", word) for line, word in some), float)
    if len(values) == count + 1 and values[-1] == -1:
        values = values[:-1]
    if len(values) != count:
        has = f"has {len(values)}" if len(values) < count else "has more"
        raise ZooError(f"{path} needs {count} weights for DIMENSION {n} as {form} and {has}")
    matrix = np.zeros((n, n))
    matrix[where] = values  # row by row
    if form in HALVES:
        matrix += matrix.T.copy()
    elif not np.array_equal(matrix, matrix.T):
        a, b = np.argwhere(matrix != matrix.T)[0]
        raise ZooError(
            f"{path}: from {a + 1} to {b + 1} it is {matrix[a, b]:g} and back {matrix[b, a]:g}; "
            "only TSP, the symmetric problem, can be solved"
        )
    np.fill_diagonal(matrix, 0.0)
    if (matrix < 0).any():
        raise ZooError(f"{path} has negative weights: add the same number to all, and the order of its tours stays")
    return matrix


# Tables ---------------------------------------------------------------------------------------------------------------


def table(path: Path, text: str, columns: Sequence[str], distance: str | None) -> Problem:
    """Points, one a line: fields separated by semicolons, tabs, commas or blanks, whichever all lines have.

    A first line is a heading where each of its fields begins with a letter. Where the separator is not a comma, numbers
    may have a decimal comma; so a comma that stands within numbers only, in lines of several words, is no separator.
    Lines that begin with ``#`` and empty columns at the end are left out.
    """
    lines = [(i, line) for i, line in lines_of(path, text) if line.strip() and not line.lstrip().startswith("#")]
    check_count(path, len(lines), MOST + 1, fewest=0)  # with a heading
    if too_long := next((i for i, line in lines if len(line) > LINE), None):
        raise ZooError(f"{path}, line {too_long}: {LINE:,} characters are the most in a line of a table")
    separator = next((s for s in ";\t," if lines and all(s in line for _, line in lines)), None)
    headed = bool(lines) and is_heading([field.strip() for field in re.split("[;\t,]", lines[0][1])])
    numbers = [line for _, line in lines[headed:]]
    if separator == "," and numbers and all(decimal_commas(line) for line in numbers):
        separator = None
        if not any(re.search(r",(?!\d{3}(\s|$))", line) for line in numbers):
            raise ZooError(
                f"{path}: are its commas decimal, or between thousands? Write numbers with a point, or without commas"
            )
    try:
        rows = [
            (
                i,
                [field.strip() for field in next(csv.reader([line], delimiter=separator, strict=True))]
                if separator
                else line.split(),
            )
            for i, line in lines
        ]
    except csv.Error as error:
        raise ZooError(f"cannot read points={path}: {cause(error)}") from error
    while rows and all(fields and not fields[-1] for _, fields in rows):
        rows = [(i, fields[:-1]) for i, fields in rows]
    heading: list[str] = []
    if rows and is_heading(rows[0][1]):
        words = rows[0][1] if separator else [w for field in rows[0][1] for w in field.split(",") if w]
        heading, rows = [short(field.lower()) for field in words], rows[1:]
        if len(heading) > COLUMNS_AT_MOST:
            raise ZooError(f"{path} has {len(heading)} columns; {COLUMNS_AT_MOST} are the most")
    comma = separator != ","
    for i, line in [] if comma or heading or columns else lines:
        if two_separators(line):
            raise ZooError(
                f"{path}, line {i}: its numbers stand between commas and between blanks. If the commas are decimal, "
                "write points, or semicolons between the numbers; if not, say which columns, such as columns=1,2: "
                f"{short(line.strip())!r}"
            )
    width = len(heading or (rows[0][1] if rows else ["", ""]))
    for i, fields in rows:
        if len(fields) != width:
            raise ZooError(
                f"{path}, line {i}: expected {'two coordinates' if width == 2 else f'{width} fields'}, "
                f"found {len(fields)} fields: {','.join(fields)[:200]!r}"
            )
    first = rows[0] if rows else (1, [""] * width)
    named, pair = chosen(path, columns, heading, first, comma)
    degrees = [coordinate(heading[i]) for i in pair] if heading else []
    if degrees and not columns and set(degrees) != {"lat", "lon"} and distance in ("GREAT_CIRCLE", "GEO"):
        raise ZooError(
            f"{path} has no heading lat or lon: say which its latitude and longitude are, "
            f"such as columns={','.join(heading[i] for i in pair)}"
        )
    if set(degrees) == {"lat", "lon"}:
        if distance is None:
            raise ZooError(
                f"{path} has latitude and longitude: say distance=great_circle for kilometres, "
                "distance=geo for TSPLIB's, or distance=euclid to take them for points of a plane"
            )
        if degrees[0] == "lon" and distance in ("GREAT_CIRCLE", "GEO"):
            pair = pair[::-1]
    check_count(path, len(rows), MOST)
    points = [[number(f"{path}, line {i}", fields[column], comma=comma) for column in pair] for i, fields in rows]
    names = [str(i) for i in range(1, len(rows) + 1)] if named is None else [fields[named] for _, fields in rows]
    return Problem(
        path.name.split(".")[0], names, distance or "EUCLID", np.array(points, dtype=np.float64).reshape(-1, 2)
    )


def decimal_commas(line: str) -> bool:
    """Whether fields are separated by blanks, and each comma is within a number, as in ``3,5 4,25``."""
    words = line.split()
    return len(words) > 1 and all(DECIMAL_COMMA.fullmatch(word) for word in words if "," in word)


def two_separators(line: str) -> bool:
    """Whether these are numbers without points, with commas alone here and blanks there, as in ``1,5, 2,5``: which
    belong together?"""
    numbers = "." not in line and all(NUMBER.fullmatch(word) for word in re.split(r"[,\s]+", line.strip(" \t,")))
    return numbers and bool(re.search(r"\d,[-+.\d]", line) and re.search(r"\d,?\s+[-+.\d]", line))


def coordinate(word: str) -> str | None:
    """Which coordinate a heading names, such as ``Longitude (deg)``: x, y, z, lat or lon."""
    letters = re.match(r"[^\W\d_]+", word)
    return COLUMNS.get(letters.group()) if letters else None


def is_heading(fields: list[str]) -> bool:
    words = [field for field in fields if field]
    numbers = ("nan", "inf", "infinity")
    return bool(words) and all(re.match(r"[^\W\d]", word) and word.lower() not in numbers for word in words)


def chosen(
    path: Path, columns: Sequence[str], heading: list[str], first: tuple[int, list[str]], comma: bool
) -> tuple[int | None, list[int]]:
    """The column of the names, if there is one, and those of the two coordinates."""
    if columns:
        found = [column_of(path, column, heading, len(first[1])) for column in columns]
        if len(found) not in (2, 3) or len(set(found)) != len(found):
            raise ZooError(
                f"columns={','.join(columns)}: name two columns, or those of the names and of two coordinates"
            )
        return (found[0] if len(found) == 3 else None), found[-2:]
    if heading:
        known = {axis: i for i, word in reversed(list(enumerate(heading))) if (axis := coordinate(word))}
        if "z" in known:
            raise ZooError(f"{path} has a column {heading[known['z']]}: say which two are meant, such as columns=x,y")
        pairs = [[known[a], known[b]] for a, b in (("x", "y"), ("lat", "lon")) if a in known and b in known]
        if len(pairs) == 1:
            pair = sorted(pairs[0]) if "lat" in known else pairs[0]
            named = next((i for i, word in enumerate(heading) if word in NAMES and i not in pair), None)
            return named, pair
    width = len(first[1])
    if width == 2:
        return None, [0, 1]
    if width == 3:
        try:
            number("", first[1][0], comma=comma)
        except ZooError:
            return 0, [1, 2]
        if heading and heading[0] in NAMES:
            return 0, [1, 2]
    shown = f" Its columns are {', '.join(heading)}." if heading else ""
    raise ZooError(
        f"{path}, line {first[0]}: expected two coordinates, found {width} fields: say which, "
        f"such as columns={','.join(heading[-2:]) if width > 1 and heading else '2,3'}.{shown}"
    )


def column_of(path: Path, column: str, heading: list[str], width: int) -> int:
    name = column.strip().lower()
    if name in heading:
        return heading.index(name)
    if re.fullmatch(r"\d{1,4}", name, re.ASCII) and 1 <= int(name) <= width:
        return int(name) - 1
    known = f" Its columns are {', '.join(heading)}." if heading else f" It has columns 1 to {width}."
    raise ZooError(f"{path} has no column {column!r}.{did_you_mean(name, heading)}{known}")
