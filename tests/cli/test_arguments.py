"""The one dialect: what a signature understands, and what a mistake gets."""

import os
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveInt

from zoo import hub
from zoo.cli.arguments import command, describe, options_of, parse
from zoo.errors import ZooError


def example(
    first: str,
    second: Path = Path("x"),
    *overrides: str,
    n: PositiveInt = 3,
    share: Annotated[float, Field(ge=0, le=1)] = 0.5,
    kind: Literal["hard", "soft"] = "hard",
    on: bool = False,
    names: Sequence[str] = ("a", "b"),
    numbers: Sequence[float] = (),
    some: Sequence[str] | None = None,
    file: Path | None = Path("y"),
) -> None:
    """Do something.

    Args:
        first: what comes first.
        second: a file, of which there is more to say than fits
            in one line.
        n: how many.
        kind: hard or soft.
        overrides: options of model.

    Raises:
        ZooError: never.
    """


def read(*words: str):
    return parse(example, ["first=z", *words], takes=lambda: ["model"])[1]


@pytest.mark.parametrize(
    "word, value",
    [
        ("n=5", 5),
        ("share=1", 1.0),
        ("share=2e-1", 0.2),
        ("kind=soft", "soft"),
        ("on=true", True),
        ("names=c", ["c"]),
        ("names=[c, d]", ["c", "d"]),
        ("names=c,d,", ["c", "d"]),
        ("names=[]", []),
        ("numbers=1,0.5", [1.0, 0.5]),
        ("some=a", ["a"]),
        ("some=null", None),
        ("file=null", None),
        ("file=a=b/(c),d", Path("a=b/(c),d")),
        ("first=null", "null"),
        ("first=4 0 7", "4 0 7"),
        ("first=12", "12"),
    ],
)
def test_values_are_of_the_type_that_the_signature_says(word, value):
    found = read(word)[word.partition("=")[0]]
    assert found == value and type(found) is type(value)


def test_bare_words_are_what_may_be_given_by_position():
    assert parse(example, ["a", "n=1", "b"])[1] == {"first": "a", "n": 1, "second": Path("b")}
    assert parse(example, ["first=a", "b"])[1] == {"first": "a", "second": Path("b")}
    assert parse(example, ["a", "n=1", "n=2"])[1]["n"] == 2


def test_options_of_configurations_are_handed_on():
    words = ["a", "model=x", "model.y.z=[1,2]", "+model.v=1", "~model.w", "n=2"]
    overrides, given = parse(example, words, takes=lambda: ["model"])
    assert overrides == words[1:-1] and given == {"first": "a", "n": 2}


@pytest.mark.parametrize(
    "words, message",
    [
        ([], r"^say which first: first=\.\.\., what comes first$"),
        (["a", "m=1"], r"no option 'm'.* Options: first, second, n, share, .*, model\."),
        (["a", "knid=soft"], "no option 'knid'. Did you mean 'kind'"),
        (["a", "modle.x=1"], "no option 'modle.x'. Did you mean 'model'"),
        (["a", "n=0"], r"^n=0 is not valid: input should be greater than 0\.$"),
        (["a", "n=many"], "n=many is not valid: input should be a valid integer"),
        (["a", "n=2.5"], "n=2.5 is not valid"),
        (["a", "n=null"], "n=null is not valid"),
        (["a", "n="], r"^n= needs a value: how many$"),
        (["a", "share=1.5"], "share=1.5 is not valid: input should be less than or equal to 1"),
        (["a", "kind=sotf"], "kind=sotf is not valid: input should be 'hard' or 'soft'"),
        (["a", "on=maybe"], "on=maybe is not valid: input should be a valid boolean"),
        (["a", "numbers=1,x"], "numbers=1,x is not valid: input should be a valid number"),
        (["a", "b", "c"], "cannot read 'c': options are written name=value"),
        (["a", "b", "kidn"], "cannot read 'kidn'.*Did you mean 'kind'"),
        (["a", "--n", "3"], r"^options are written name=value: n=\.\.\., not --n$"),
        (["a", "--n=3"], r"^options are written name=value: n=3, not --n=3$"),
        (["a", "--knid=3"], "no option 'knid'. Did you mean 'kind'"),
    ],
)
def test_mistakes(words, message):
    with pytest.raises(ZooError, match=message):
        parse(example, words, takes=lambda: ["model"])


def test_without_overrides_options_of_configurations_do_not_exist():
    def plain(*, n: int = 1) -> None: ...

    with pytest.raises(ZooError, match="no option 'model'"):
        parse(plain, ["model=1"])


def test_a_command_calls_its_function():
    called = []

    def function(a: str, b: str = "b", *overrides: str, c: int = 1) -> None:
        called.append((a, b, overrides, c))

    main = command(function, text="What it does.", takes=lambda: ["model"])
    main(["x", "model.y=1", "c=3"])
    assert called == [("x", "b", ("model.y=1",), 3)]


def test_help_is_made_of_the_signature_and_the_docstring(capsys):
    assert [option.name for option in options_of(example) if option.required] == ["first"]
    lines = describe(example).splitlines()
    assert lines[0] == "first=      what comes first"
    assert lines[1] == "second=x    a file, of which there is more to say than fits in one line"
    assert "n=3         how many" in lines and "names=a,b" in lines and "on=false" in lines
    assert lines[-1] == "name=value  options of model"
    main = command(example, text="What it does.\n\n    python scripts/sample.py", notes=lambda: "Notes.")
    for words in ([], ["-h"], ["n=x", "--help"]):
        main(words)
        printed = capsys.readouterr().out
        assert printed.startswith("What it does.\n\n    ") and printed.endswith("Notes.\n") and lines[0] in printed


COMMANDS = {
    "eval": "score",
    "sample": "sample",
    "play": "play",
    "solve": "solve",
    "speak": "speak",
    "publish": "make",
    "list": "show",
    "demo": "demo",
}
WRONG = ("", "nonsense", "-1", "1e30", "null", "[1]", "{a:1}", "nan", "9" * 400)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_value_of_any_option_of_a_command_is_one_clear_error_or_none(name):
    function = getattr(import_module(f"zoo.cli.{name}"), COMMANDS[name])
    found = options_of(function)
    assert all(option.about for option in found)
    for option in found:
        for value in WRONG:
            try:
                option.read(value)
            except ZooError as error:
                assert 10 < len(str(error)) < 1000 and option.name in str(error)


def test_values_out_of_range_are_refused(tmp_path):
    from zoo.cli.play import play
    from zoo.cli.speak import speak

    with pytest.raises(ZooError, match=r"episodes=1000000000000 is not valid: .*less than or equal to 20000"):
        parse(play, ["actor_critic.cartpole", "episodes=1000000000000"])
    with pytest.raises(ZooError, match="1001 words, and 1000 are the most"):
        speak("speaker_generator.fsdd", "4" * 1001, output=tmp_path / "x.wav")


def test_the_home_of_the_user_is_found_where_the_shell_leaves_it(tmp_path, monkeypatch):
    from zoo.cli.sample import sample
    from zoo.cli.solve import solve
    from zoo.config.composition import QUOTED, literal

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    _, given = parse(sample, ["cat_vae.mnist", "output=~/x.png"])
    assert given["output"] == tmp_path / "x.png"
    _, given = parse(solve, ["pointer_net.tsp20", "points.csv", "output=a.csv,~/x.png"])
    assert given["output"] == [Path("a.csv"), tmp_path / "x.png"]
    assert QUOTED.fullmatch(literal("run=~/x").partition("=")[2]) and "~" not in literal("run=~/x")
    assert literal("data.root=~/x") == "data.root='~/x'"  # as it is, for others and elsewhere
    with pytest.raises(ZooError, match=re.escape(repr(os.path.expanduser("~/nowhere")))):
        hub.read("~/nowhere")
