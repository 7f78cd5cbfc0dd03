"""Files of points and matrices, the lengths that they define, and the local search."""

import gzip
import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zoo
from tests.models.pointer_net.test_model import make
from zoo.errors import ZooError
from zoo.models.pointer_net import nets
from zoo.models.pointer_net.tours import finding, repair, search, writing
from zoo.models.pointer_net.tours.finding import Row, find
from zoo.models.pointer_net.tours.problem import METRICS, Problem
from zoo.models.pointer_net.tours.reading import read
from zoo.models.pointer_net.tours.writing import draw, known_optimum, title, write

FIVE = """NAME : five
TYPE : TSP
DIMENSION : 5
EDGE_WEIGHT_TYPE : EUC_2D
NODE_COORD_SECTION
7 0 0
8 10.5 0
9 1.05e1 10
10 0 10
11 0 5
EOF
"""
FORMS = ["FULL_MATRIX"]
FORMS += [
    f"{half}{diagonal}_{way}" for half in ("UPPER", "LOWER") for diagonal in ("", "_DIAG") for way in ("ROW", "COL")
]


def random_problem(n: int, metric: str = "EUCLID", seed: int = 0) -> Problem:
    points = np.random.RandomState(seed).uniform(-80, 80, size=(n, 3 if "3D" in metric else 2))
    return Problem("random", [str(i) for i in range(n)], metric, points)


def shortest(problem: Problem) -> float:
    """By trying all tours."""
    return min(problem.length(np.array((0, *rest))) for rest in itertools.permutations(range(1, len(problem))))


# Distances ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metric, a, b, expected",
    [
        ("EUCLID", (0, 0), (3, 4.5), 29.25**0.5),
        ("EUC_2D", (0, 0), (1, 1.1), 1),  # 1.487
        ("EUC_2D", (0, 0), (0, 2.5), 3),  # halves up, not to even
        ("CEIL_2D", (0, 0), (1, 1), 2),
        ("FLOOR_2D", (0, 0), (1, 1), 1),
        ("MAN_2D", (0, 0), (1.2, 1.2), 2),
        ("MAX_2D", (0, 0), (1.2, -7.6), 8),
        ("ATT", (0, 0), (10, 0), 4),  # sqrt(10) = 3.16, rounded to 3, which is less
        ("EUC_3D", (0, 0, 0), (1, 2, 2), 3),
        ("MAN_3D", (0, 0, 0), (1, -2, 2), 5),
        ("MAX_3D", (0, 0, 0), (1, -2, 5), 5),
        ("GEO", (38.24, 20.42), (39.57, 26.15), 509),  # the first two of ulysses16, by Reinelt's own formula
        ("GREAT_CIRCLE", (0, 0), (0, 90), 6371.0088 * np.pi / 2),
    ],
)
def test_distances_are_those_of_tsplib(metric, a, b, expected):
    problem = Problem("two", ["1", "2"], metric, np.array([a, b], dtype=float))
    assert problem.row(0)[1] == pytest.approx(expected, abs=1e-9)
    assert problem.length(np.array([1, 0])) == pytest.approx(2 * expected, abs=1e-9)


@pytest.mark.parametrize("metric", [name for name in METRICS if name != "EXPLICIT"])
def test_a_table_of_distances_changes_no_length(metric, monkeypatch):
    problem = random_problem(30, metric)
    monkeypatch.setattr("zoo.models.pointer_net.tours.problem.AT_ONCE", 0)
    one_by_one = random_problem(30, metric)
    assert len(problem.table) == 30 and len(one_by_one.table) == 0
    order = np.random.RandomState(1).permutation(30)
    assert problem.length(order) == pytest.approx(one_by_one.length(order))
    order = search.local_search(one_by_one, order, kicks=20)
    assert problem.length(order) == pytest.approx(one_by_one.length(order))
    assert problem.length(order) == pytest.approx(problem.length(search.local_search(problem, order, kicks=0)))


def test_what_is_no_tour_has_no_length():
    for order in ([0, 1, 1], [0, 1], [0, 1, 3]):
        with pytest.raises(ZooError, match="not a tour of its 3 points"):
            random_problem(3).length(np.array(order))


def test_planes_keep_the_distances_of_points():
    problem = random_problem(12, "EUCLID")
    matrix = np.stack([problem.row(i) for i in range(12)])
    fitted = Problem("matrix", problem.names, "EXPLICIT", matrix=matrix).plane()
    again = np.linalg.norm(fitted[:, None] - fitted[None], axis=-1)
    assert np.allclose(again, matrix, atol=1e-6)
    flat = np.concatenate([problem.points, np.zeros((12, 1))], 1)[:, [0, 2, 1]]
    assert np.isfinite(Problem("large", problem.names, "EXPLICIT", matrix=1e200 * matrix).plane()).all()
    fitted = Problem("flat", problem.names, "EUC_3D", flat).plane()
    assert np.allclose(np.linalg.norm(fitted[:, None] - fitted[None], axis=-1), matrix)


# The search -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(1, 9))
def test_small_tours_are_optimal(n):
    for seed in range(4):
        problem = random_problem(n, seed=seed)
        order = search.local_search(problem, np.arange(n), kicks=30)
        assert problem.length(order) == pytest.approx(shortest(problem))


@pytest.mark.parametrize("metric", ["EUCLID", "ATT", "GEO", "EUC_3D"])
def test_the_search_only_shortens(metric):
    problem = random_problem(60, metric)
    order = np.random.RandomState(2).permutation(60)
    lengths = [problem.length(search.local_search(problem, order, kicks=kicks)) for kicks in (0, 40)]
    assert problem.length(order) > lengths[0] >= lengths[1] > 0


def test_kicks_give_the_same_tour_however_often_the_clock_is_looked_at(monkeypatch):
    problem = random_problem(60)
    orders = []
    for between in (64, 1, 7):
        monkeypatch.setattr(search, "KICKS", between)
        orders.append(search.local_search(problem, np.arange(60), kicks=150, seed=3))
    assert all(np.array_equal(orders[0], order) for order in orders)


def test_restarts_are_no_longer_than_their_first():
    problem = random_problem(40)
    once = search.local_search(problem, np.random.RandomState(0).permutation(40), kicks=0)
    order = search.restarted(problem, 3, seconds=0.0)
    assert problem.length(order) <= problem.length(once)


@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 5))
def test_neighbours_are_others_the_nearest_first(n, count, seed):
    problem = random_problem(n, seed=seed)
    near = search.neighbours(problem, count)
    assert near.shape == (n, min(count, n - 1))
    for i, row in enumerate(near):
        lengths = problem.row(i)[row]
        assert i not in row and len({*row}) == len(row) and (np.diff(lengths) >= 0).all()
        assert lengths[0] == np.delete(problem.row(i), i).min()


def test_a_list_of_neighbours_leads_out_of_a_cluster():
    points = np.random.RandomState(0).uniform(size=(60, 2)) + 100 * (np.arange(60) % 2)[:, None]
    names = [str(i) for i in range(60)]
    problem = Problem("two clusters", names, "EUCLID", points)
    leaves = (search.neighbours(problem) % 2 != np.arange(60)[:, None] % 2).any(1)
    assert leaves[::2].any() and leaves[1::2].any()  # from the margins of both
    matrix = np.linalg.norm(points[:, None] - points, axis=-1)
    nearest = search.neighbours(Problem("matrix", names, "EXPLICIT", matrix=matrix))  # without coordinates
    assert (nearest % 2 == np.arange(60)[:, None] % 2).all()


def test_coincident_and_collinear_points():
    for points in (np.zeros((9, 2)), np.repeat(np.eye(2), 6, 0), np.outer(np.arange(12.0), [1, 2])):
        problem = Problem("degenerate", [str(i) for i in range(len(points))], "EUCLID", points)
        order = search.local_search(problem, np.random.RandomState(0).permutation(len(points)), kicks=60)
        assert problem.length(order) == pytest.approx(2 * np.linalg.norm(np.ptp(points, axis=0)))


def test_constructions_are_those_of_the_batched_ones():
    from zoo.models.pointer_net.tasks import heuristics

    problem = random_problem(25)
    x = torch.from_numpy(problem.points).unsqueeze(0)
    for name in ("nearest_neighbour", "farthest_insertion"):
        assert problem.length(getattr(search, name)(problem)) == pytest.approx(
            problem.length(getattr(heuristics, name)(x)[0].numpy())
        )


# TSPLIB ---------------------------------------------------------------------------------------------------------------


def written(tmp_path, text: str, name: str = "a.tsp"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def explicit(matrix: np.ndarray, form: str) -> list[int]:
    """The numbers of ``matrix`` in the order that TSPLIB's manual gives for each format."""
    n = len(matrix)
    half, _, way = form.rpartition("_")
    if form == "FULL_MATRIX":
        return matrix.ravel().tolist()
    start = 0 if "DIAG" in half else 1
    lines = range(n)
    if half.startswith("UPPER") == (way == "ROW"):  # a row of the upper half begins at the diagonal
        pairs = [(i, j) for i in lines for j in range(i + start, n)]
    else:
        pairs = [(i, j) for i in lines for j in range(0, i + 1 - start)]
    return [int(matrix[i, j]) for i, j in pairs]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_matrix(form, tmp_path):
    matrix = np.random.RandomState(0).randint(1, 99, size=(6, 6))
    matrix = np.triu(matrix, 1) + np.triu(matrix, 1).T
    numbers = explicit(matrix, form)
    lines = [" ".join(map(str, numbers[i : i + 4])) for i in range(0, len(numbers), 4)]  # wherever lines end
    head = f"NAME: m\nDIMENSION: 6\nEDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: {form}\nEDGE_WEIGHT_SECTION\n"
    problem = read(written(tmp_path, head + "\n".join(lines)))
    assert np.array_equal(problem.matrix, matrix) and problem.metric == "EXPLICIT"


@given(st.data())
def test_every_way_to_write_a_file(tmp_path_factory, data):
    """Spaces, case, order of keywords, line ends, comments, the end: as the 111 files of TSPLIB differ, and more."""
    draw_one = lambda *options: data.draw(st.sampled_from(options))  # noqa: E731
    points = data.draw(st.lists(st.tuples(*[st.integers(-999, 999)] * 2), min_size=2, max_size=6))
    metric = draw_one("EUC_2D", "CEIL_2D", "ATT", "MAN_2D")
    colon = draw_one(":", " : ", ": ", " :")
    case = draw_one(str, str.lower)
    header = {"NAME": "x", "TYPE": "TSP", "COMMENT": "a: b (c)", "NODE_COORD_TYPE": "TWOD_COORDS"}
    header |= {"EDGE_WEIGHT_TYPE": metric, "DIMENSION": str(len(points))}
    keys = [f"{case(key)}{colon}{value}" for key, value in header.items()]
    keys = data.draw(st.permutations(keys))
    form = draw_one(str, lambda v: f"{float(v):.5e}", lambda v: f"{v}.", lambda v: f"{float(v):.1f}D0")
    gap = draw_one(" ", "   ", "\t")
    body = [gap.join([draw_one("", "  ") + str(i + 1), *map(form, p)]) for i, p in enumerate(points)]
    end = draw_one(["EOF"], [], ["-1", "EOF"], ["", "EOF", "what follows is not a part of it"])
    section = case("NODE_COORD_SECTION") + draw_one("", " ", ":")
    text = draw_one("\n", "\r\n").join([*keys, section, *body, *end]) + draw_one("", "\n")
    folder = tmp_path_factory.mktemp("tsp")
    name = draw_one("a.tsp", "A.TSP", "a.tsp.gz")
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    problem = read(path)
    assert problem.metric == metric and np.array_equal(problem.points, np.array(points, dtype=float))


def test_display_coordinates_and_three_dimensions(tmp_path):
    head = "DIMENSION: 2\nEDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: UPPER_ROW\n"
    text = f"{head}EDGE_WEIGHT_SECTION\n5\nDISPLAY_DATA_SECTION\n1 0 1\n2 3 4\n"
    problem = read(written(tmp_path, text))
    assert np.array_equal(problem.drawn(), [[0, 1], [3, 4]]) and problem.length(np.array([0, 1])) == 10
    text = "DIMENSION: 2\nEDGE_WEIGHT_TYPE: EUC_3D\nNODE_COORD_SECTION\n1 0 0 0\n2 1 2 2\n"
    assert read(written(tmp_path, text)).length(np.array([0, 1])) == 6


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("11 0 5\n", "", "says DIMENSION 5 but its NODE_COORD_SECTION has 4 points"),
        ("11 0 5", "11 0", "line 10: expected a number and two coordinates"),
        ("11 0 5", "11 0 nan", "line 10: a number must be finite"),
        ("11 0 5", "11 0 1_000", "line 10: '1_000' is not a number"),
        ("11 0 5", "11 0 ٣", "line 10: '٣' is not a number"),
        ("11 0 5", "11 0 1e999", "line 10: a number must be finite"),
        ("11 0 5", "7 0 5", "node 7 is in its NODE_COORD_SECTION twice"),
        ("EUC_2D", "EXPLICIT", "of an EXPLICIT matrix a format is needed"),
        ("EUC_2D", "XRAY1", "EDGE_WEIGHT_TYPE XRAY1; these are known"),
        ("EUC_2D", "EUC_3D", "expected a number and three coordinates"),
        ("EDGE_WEIGHT_TYPE : EUC_2D\n", "", "does not say its EDGE_WEIGHT_TYPE"),
        ("TYPE : TSP", "TYPE : ATSP", "is of TYPE ATSP"),
        ("NODE_COORD", "FIXED_EDGES_SECTION\n7 9\n-1\nNODE_COORD", "FIXED_EDGES_SECTION, which cannot be honoured"),
        ("NODE_COORD", "DEMAND_SECTION\n7 9\nNODE_COORD", "DEMAND_SECTION, which cannot be honoured"),
        ("DIMENSION : 5", "DIMENSION : five", "needs a DIMENSION"),
        ("DIMENSION : 5", "DIMENSION : 999999", "has 999,999 points; 100,000 are the most"),
        ("DIMENSION : 5", "DIMENSION : 5\nDIMENSION : 5", "a second DIMENSION"),
        ("TYPE : TSP", "TIPE : TSP", "TIPE is not a keyword of TSPLIB. Did you mean 'TYPE'"),
        ("10.5 0", "1e200 0", "too large to be added up"),
        (FIVE, "hello", "expected KEYWORD : VALUE"),
        (FIVE, "", "does not say its EDGE_WEIGHT_TYPE"),
    ],
)  # fmt: skip
def test_what_would_not_be_honoured_is_refused(old, new, message, tmp_path):
    assert FIVE.count(old) >= 1
    with pytest.raises(ZooError, match=message):
        read(written(tmp_path, FIVE.replace(old, new, 1)))


def test_matrices_that_are_refused(tmp_path):
    head = "TYPE: TSP\nDIMENSION: 3\nEDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: {}\nEDGE_WEIGHT_SECTION\n"
    for form, numbers, message in (
        ("FULL_MATRIX", "0 1 2 1 0 3 2 4 0", "from 2 to 3 it is 3 and back 4"),
        ("UPPER_ROW", "1 -2 3", "negative weights"),
        ("UPPER_ROW", "1 2", "needs 3 weights for DIMENSION 3 as UPPER_ROW and has 2"),
        ("DIAGONAL", "1 2", "has EDGE_WEIGHT_FORMAT DIAGONAL"),
    ):
        with pytest.raises(ZooError, match=message):
            read(written(tmp_path, head.format(form) + numbers))


# Tables ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, columns, names",
    [
        ("x,y\n1,2\n3,4\n5,6\n", (), "123"),
        ("1;2\n3;4\n\n5;6", (), "123"),
        ("1 2\n3\t4\n5 6\n", (), "123"),
        ("\ufeff1,2\n3,4\n5,6\n", (), "123"),
        ("1,2,\n3,4,\n5,6,\n", (), "123"),
        ("1,0;2,0\n3;4\n5,0;6,0\n", (), "123"),  # decimal commas
        ("1,0 2,00\n3 4,0\n5,0\t6,0\n", (), "123"),
        ("name x y\na 1,0 2,0\nb 3,0 4\nc 5,0 6,0\n", (), "abc"),
        ("name, x, y\na 1,0 2,0\nb 3,0 4\nc 5,0 6,0\n", (), "abc"),
        ("x,y\n1,0 2\n3 4,0\n5,0 6,0\n", (), "123"),
        ("1,000 2,0\n3,000 4,000\n5,000 6\n", (), "123"),  # none of thousands, by the first line
        ("1,0 2,0\n3,0 0,4e+1\n50,0D-1 6,0\n", (), "123"),
        ("1 ,2\n3 ,4\n5 ,6\n", (), "123"),
        ("x ,y\n1 ,2\n3  ,4\n5,6\n", (), "123"),
        ("4 2,1,2\n4 3,3,4\n4 4,5,6\n", ("2", "3"), "123"),
        ("1, 2\n3, 4\n5, 6\n", (), "123"),
        ("New York,1,2\nSt 7,3,4\nc,5,6\n", ("2", "3"), "123"),
        ("# a comment\n1,2\n3,4\n5,6\n", (), "123"),
        ("a,1,2\nb,3,4\nc,5,6\n", (), "abc"),
        ("name,x,y\na,1,2\nb,3,4\nc,5,6\n", (), "abc"),
        ("id,demand,y,x\n7,0,2,1\n8,0,4,3\n9,0,6,5\n", (), "789"),
        ('"a";"1";"2"\n"b";"3";"4"\n"c";"5";"6"\n', (), "abc"),
        ("k,a,b,c\n7,1,9,2\n8,3,9,4\n9,5,9,6\n", ("k", "a", "c"), "789"),
        ("7,1,9,2\n8,3,9,4\n9,5,9,6\n", ("2", "4"), "123"),
    ],
)
def test_kinds_of_tables(text, columns, names, tmp_path):
    problem = read(written(tmp_path, text, "a.csv"), columns=columns)
    assert problem.names == list(names) and np.array_equal(problem.points, [[1, 2], [3, 4], [5, 6]])
    assert problem.metric == "EUCLID"


def test_latitude_and_longitude_are_asked_about(tmp_path):
    path = written(tmp_path, "city,lon,lat\nBerlin,13.40,52.52\nParis,2.35,48.86\n", "a.csv")
    with pytest.raises(ZooError, match="say distance=great_circle"):
        read(path)
    assert read(path, distance="great_circle").length(np.array([0, 1])) == pytest.approx(2 * 877.5, abs=2)
    by_column = written(tmp_path, "13.40,52.52\n2.35,48.86\n", "b.csv")
    swapped = read(by_column, columns=("2", "1"), distance="great_circle")
    assert swapped.length(np.array([0, 1])) == pytest.approx(2 * 877.5, abs=2)
    assert read(path, distance="euclid").metric == "EUCLID"
    units = written(tmp_path, "Longitude (deg),Latitude (deg)\n13.40,52.52\n2.35,48.86\n", "c.csv")
    assert read(units, distance="great_circle").length(np.array([0, 1])) == pytest.approx(2 * 877.5, abs=2)


def test_neighbours_across_the_date_line_are_neighbours_on_the_map():
    degrees = np.array([[-17.0, 178.0], [-17.0, -178.0], [-13.0, -172.0], [-20.0, 170.0], [-16.0, 180.0]])
    fiji = Problem("fiji", [*"abcde"], "GREAT_CIRCLE", degrees)
    turned = np.stack([degrees[:, 0], (degrees[:, 1] + 100) % 360], 1)
    elsewhere = Problem("elsewhere", [*"abcde"], "GREAT_CIRCLE", turned)
    assert np.allclose(fiji.plane() - fiji.plane()[0], elsewhere.plane() - elsewhere.plane()[0], atol=1e-6)
    assert np.ptp(fiji.plane()[:, 0]) < np.radians(20)
    plain = Problem("plain", [*"ab"], "GREAT_CIRCLE", np.array([[0.0, -170.0], [0.0, 5.0]]))
    assert np.allclose(plain.plane()[:, 0], np.radians([-170, 5]))  # the widest gap is where the map ends anyway


def test_a_repair_is_told_when_to_end():
    square = Problem("square", [*"abcd"], "EUCLID", np.eye(4)[:, :2])
    for limits in ({}, {"seconds": 1.0, "rounds": 1}):
        with pytest.raises(ValueError, match="need seconds or rounds"):
            repair.repair(None, square, np.arange(4), size=3, **limits)


@pytest.mark.parametrize(
    "text, options, message",
    [
        ("", {}, "has 0 points"),
        ("x,y\n1,2\n", {}, "has 1 point;"),
        ("1,2\n3,nan\n", {}, "line 2: a number must be finite, got nan"),
        ("1,000 2,000\n3,500 4,000\n", {}, "decimal, or between thousands"),
        ("1,5, 2,5\n3,5, 4,5\n", {}, "line 1: its numbers stand between commas and between blanks"),
        ("1,5 2,5\n3,5\n", {}, "line 1: its numbers stand between commas and between blanks"),
        ("1,2, 3\n4,5, 6\n", {}, "line 1: its numbers .* say which columns"),
        ("1.5,2, 3\n4.5,5, 6\n", {}, "say which"),
        ("1,1 ,2\n3,1 ,4\n", {}, "line 1: expected two coordinates, found 3 fields"),
        ("1, 2\n3,5 4\n", {}, "line 2: its numbers stand between commas and between blanks"),
        ("1,2\n3,four\n", {}, "line 2: 'four' is not a number"),
        ("1,2\n3,4,5\n", {}, "line 2: expected two coordinates, found 3 fields"),
        ("1,2\nx,y\n", {}, "line 2: 'x' is not a number"),
        ("1x,2\n3,4\n", {}, "line 1: '1x' is not a number"),  # no heading
        ("nan,inf\n3,4\n", {}, "line 1: a number must be finite"),
        ("1_000,2\n3,4\n", {}, "'1_000' is not a number"),
        ("1,2,3\n4,5,6\n", {}, "found 3 fields: say which, such as columns=2,3"),
        ("a,b,c\n4,5,6\n", {}, "such as columns=b,c. Its columns are a, b, c"),
        ("x,y\n1,2\n3,4\n", {"columns": ("x", "z")}, "no column 'z'"),
        ("x,y\n1,2\n3,4\n", {"columns": ("x",)}, "name two columns"),
        ("x,y\n1,2\n3,4\n", {"distance": "eucild"}, "no distance=eucild. Did you mean 'euclid'"),
        ("0,0\n0,1e-200\n", {}, "too small to be squared"),
        ("95,2\n3,4\n", {"distance": "great_circle"}, "within -90 and 90"),
        ("x,y\n13,52\n2,48\n", {"distance": "great_circle"}, "such as columns=x,y"),
        ("x,y,z\n1,2,3\n3,4,5\n", {}, "has a column z"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(text, options, message, tmp_path):
    with pytest.raises(ZooError, match=message):
        read(written(tmp_path, text, "a.csv"), **options)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(b"1,2\n3,4\n")[:-6])
    for path in (tmp_path, tmp_path / "missing.csv", tmp_path / "binary.csv", tmp_path / "torn.csv.gz"):
        with pytest.raises(ZooError, match="cannot read points"):
            read(path)
    with pytest.raises(ZooError, match="which says its own"):
        read(written(tmp_path, FIVE), distance="euclid")


# Output ---------------------------------------------------------------------------------------------------------------


def test_tours_are_written_in_every_form(tmp_path):
    problem = read(written(tmp_path, FIVE))
    rows = [
        Row("one", np.array([0, 1, 3, 2, 4]), 50.0, 0.1),
        Row("two", np.arange(5), problem.length(np.arange(5)), 0.2),
    ]
    for suffix in (".tour", ".csv", ".json", ".txt", ".png", ".svg"):
        write(tmp_path / f"a{suffix}", problem, rows)
    texts = {suffix: (tmp_path / f"a{suffix}").read_text() for suffix in (".tour", ".csv", ".json", ".txt")}
    assert texts[".txt"].split() == ["7", "8", "9", "10", "11"]
    assert texts[".tour"].split("TOUR_SECTION\n")[1].split() == ["7", "8", "9", "10", "11", "-1", "EOF"]
    assert texts[".csv"].splitlines()[:2] == ["step,name,x,y", "1,7,0.0,0.0"]
    value = json.loads(texts[".json"])
    assert value["length"] == 42 and value["method"] == "two" and value["tour"] == ["7", "8", "9", "10", "11"]
    assert (tmp_path / "a.png").stat().st_size > 5000


@pytest.mark.parametrize("n", [5, 3000])
def test_pictures_mark_the_winner(n):
    problem = random_problem(n)
    problem.name = "costs $5 and $6"  # no mathematics
    rows = [Row(name, np.arange(n), length, 0.1) for name, length in (("a", 3.0), ("b", 2.0))]
    figure = draw(problem, rows)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == (["a: 3", "★ b: 2"] if n == 5 else ["★ b: 2"])
    figure.canvas.draw()


def test_optima_are_known_of_instances_of_tsplib_not_of_others_with_their_names(tmp_path, monkeypatch):
    degrees = [
        (16.47, 96.10), (16.47, 94.44), (20.09, 92.54), (22.39, 93.37), (25.23, 97.24), (22.00, 96.05), (20.47, 97.02),
        (17.20, 96.29), (16.30, 97.38), (14.05, 98.12), (16.53, 97.38), (21.52, 95.59), (19.41, 97.13), (20.09, 94.55),
    ]  # fmt: skip
    names = [str(i) for i in range(14)]
    burma = Problem("as you like", names, "GEO", np.array(degrees))
    assert known_optimum(burma) == 3323
    assert known_optimum(Problem("burma14", names, "EUC_2D", burma.points)) is None
    assert known_optimum(Problem("burma14", names, "GEO", burma.points + 0.01)) is None
    optima = json.loads(writing.OPTIMA.read_text())
    assert len(optima) == 110 == len({known for _, known in optima.values()})
    matrix = Problem("m", [*"ab"], "EXPLICIT", matrix=np.array([[0.0, 1.0], [1.0, 0.0]]))
    (tmp_path / "optima.json").write_text(json.dumps({"two": [2, writing.digest(matrix)]}))
    monkeypatch.setattr(writing, "OPTIMA", tmp_path / "optima.json")
    assert known_optimum(matrix) == 2 and known_optimum(burma) is None
    matrix.matrix[0, 0] = -0.0
    assert known_optimum(matrix) == 2


def test_titles_say_how_far_a_tour_is_from_the_optimum():
    assert title(Row("x", np.arange(51), 430.26, 1.0), None, 426) == "x: 430.26, 1.00% above optimal"


# The network on large tours -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    return make().eval()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 9, 12, 31, 200])
@pytest.mark.parametrize("metric", ["EUCLID", "ATT"])
def test_repair_keeps_a_tour_and_never_lengthens_it(network, n, metric):
    for seed in range(3 if n < 200 else 1):
        problem = random_problem(n, metric, seed)
        order = np.random.RandomState(seed).permutation(n)
        lengths = [problem.length(order)]
        for size in (8, 20, 2 * n):
            order = repair.repair(network, problem, order, size=size, rounds=2, seed=seed)
            assert sorted(order) == list(range(n))
            lengths.append(problem.length(order))
        assert lengths == sorted(lengths, reverse=True)
        assert n < 12 or lengths[-1] < lengths[0]  # a random network is better than a random tour
        if n <= 7:
            assert lengths[-1] >= shortest(problem) - 1e-9


@given(st.integers(10, 40), st.integers(8, 12), st.integers(0, 10_000))
def test_neighbourhoods_keep_what_is_outside(n, size, seed):
    """Whatever the new cycle, the tour goes through all points and changes in length by what the cycle changes."""
    problem, random = random_problem(n, seed=seed), np.random.RandomState(seed)
    order, position = random.permutation(n), np.empty(n, dtype=np.int64)
    position[order] = np.arange(n)
    cycles = repair.neighbourhoods(problem, order, position, random.permutation(n), min(size, n - 1))
    assert len(np.unique(cycles)) == cycles.size
    for cycle in cycles:
        now = cycle[np.argsort(position[cycle])]
        outside = repair.fixed(now[None], position, n)[0]
        assert outside.any() and not (outside & np.roll(outside, 1)).any()  # each stands beside another one
        ends = np.flatnonzero(outside)
        # In any order and direction: what stays are the paths outside, so turn and permute the pieces inside.
        pieces = np.split(np.roll(now, -ends[0] - 1), np.diff(ends).cumsum())
        inner = [np.concatenate([piece[:1], random.permutation(piece[1:-1]), piece[-1:]]) for piece in pieces]
        new = np.concatenate(inner)
        before, change = problem.length(order), repair.length(problem, new) - repair.length(problem, now)
        order = repair.replaced(problem, order, position, cycle, new)
        assert sorted(order) == list(range(n)) and (position[order] == np.arange(n)).all()
        assert problem.length(order) == pytest.approx(before + min(change, 0.0))


def test_paths_outside_may_be_turned():
    points = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], 1)
    problem = Problem("circle", [str(i) for i in range(12)], "EUCLID", points)
    order = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 10, 9])  # 9 - 0 and 8 - 11 are longer than 8 - 9 and 11 - 0
    position = np.argsort(order)
    old, new = np.array([0, 1, 2, 7, 8, 11, 10, 9]), np.array([0, 1, 2, 7, 8, 9, 10, 11])
    assert repair.fixed(old[None], position, 12)[0].tolist() == [False, False, True, *[False] * 5]
    for way in (1, -1):
        found = repair.replaced(problem, order, position.copy(), old, new[::way])
        assert problem.length(found) == pytest.approx(24 * np.sin(np.pi / 12))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 24])
def test_every_row_is_a_tour_and_none_is_shorter_than_the_shortest(network, n):
    problem = random_problem(n)
    rows = find(network, problem, seconds=0.02, size=8, starts=3, restarts=True)
    assert any("repaired" in row.method for row in rows) == (n > 20)
    for row in rows:
        assert sorted(row.order) == list(range(n)), row
        assert row.length == pytest.approx(problem.length(row.order))
    least = shortest(problem) if n <= 7 else 0.0
    assert min(row.length for row in rows) >= least - 1e-5


def test_a_network_sees_very_many_points_as_if_they_were_few(network):
    x, encoder = torch.rand(1, 200, 2), network.encoder
    plain = network.distances(x)
    with finding.seen_as_few(network, 200, 10):
        near = nets.mean_near(network.distances(x)).mean()
        assert near.item() == pytest.approx(1.1 / 10**0.5) and encoder.neighbours == finding.SEEN
    assert torch.equal(network.distances(x), plain) and encoder.neighbours is None
    with finding.seen_as_few(network, 199, 10):
        assert torch.equal(network.distances(x), plain) and encoder.neighbours is None


@pytest.mark.slow
def test_a_thousand_points_by_a_network_of_twenty_are_shorter_than_by_farthest_insertion():
    problem = random_problem(1000)
    model, inserted = zoo.from_pretrained("pointer_net.tsp20"), search.farthest_insertion(problem)
    for order, share in ((inserted, 0.96), (finding.network_tour(model, problem, 1, 1, 1000), 0.98)):
        order = repair.repair(model, problem, order, size=20, rounds=60)
        assert problem.length(order) < share * problem.length(inserted)
