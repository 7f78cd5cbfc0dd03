"""The functions behind the tabs: what they compute, and what they say of what cannot be used."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from zoo import hub
from zoo.demo import acting, choosing, editing, pointing, shared, voices
from zoo.errors import ZooError


@pytest.fixture(scope="module")
def shelf():
    return shared.Shelf()


@pytest.fixture(scope="module")
def vae(shelf):
    return shelf.load("cat_vae.mnist", *editing.ARCHS)


def test_the_shelf_has_what_is_shipped_and_what_was_given(tmp_path, shelf):
    assert shelf.names("cat_vae") == ["cat_vae.fashion_mnist", "cat_vae.mnist", "cat_vae.mnist_ar"]
    hub.save_pretrained(shelf.load("cat_vae.mnist", "cat_vae"), tmp_path / "mine", data=hub.read("cat_vae.mnist").data)
    given = shared.Shelf([str(tmp_path / "mine")])
    assert given.names("cat_vae") == [str(tmp_path / "mine"), *shelf.names("cat_vae")] and not given.names("polynomial")
    assert given.load("cat_vae.mnist", "cat_vae") is given.load("cat_vae.mnist", "cat_vae")
    for name in ("../../etc/passwd", "pointer_net.tsp20", "", None):
        with pytest.raises(ZooError, match="no model"):
            given.load(name, "cat_vae")
    with pytest.raises(ZooError, match="no pretrained model 'nothing'"):
        shared.Shelf(["nothing"])


# A code you can edit --------------------------------------------------------------------------------------------------


def test_an_entry_is_changed_and_nothing_else(vae):
    first = editing.encode(vae, editing.example(vae, 0))
    other = editing.changed(vae, first, 3, (first[3] + 1) % 10)
    assert [i for i in range(30) if first[i] != other[i]] == [3]
    assert torch.equal(editing.decode(vae, other), vae.decode(torch.tensor([other]))[0])
    assert (editing.decode(vae, other) - editing.decode(vae, first)).abs().max() > 0.01
    for place, entry in ((30, 0), (-1, 0), (0, 10), (0, -1)):
        with pytest.raises(ZooError, match="30 places, each with an entry from 0 to 9"):
            editing.changed(vae, first, place, entry)
    for wrong in (None, [], first[:-1], [*first[:-1], 10], [*first[:-1], 1.5], "code"):
        with pytest.raises(ZooError, match="no code of this model"):
            editing.checked(vae, wrong)


def test_the_way_between_two_codes(vae):
    first, second = editing.prior(vae, 2, 1.0, 0)
    assert editing.between(first, second, 0.0) == first and editing.between(first, second, 1.0) == second
    assert editing.between(first, second, 0.5) == second[:15] + first[15:]


def test_the_prior_has_a_temperature_and_a_seed(vae):
    assert editing.prior(vae, 3, 1.0, 5) == editing.prior(vae, 3, 1.0, 5) != editing.prior(vae, 3, 1.0, 6)
    for wrong in (0.0, -1.0, 3.0, float("nan")):
        with pytest.raises(ZooError, match="temperature"):
            editing.prior(vae, 1, wrong, 0)


def test_a_drawing_is_centred_and_checked(vae):
    pixels = np.zeros((28, 28))
    pixels[2:10, 3:5] = 255
    x = editing.drawn(pixels.flatten().tolist(), vae)
    assert x.shape == (1, 1, 28, 28) and x.sum() == 16
    assert x[0, 0].nonzero().float().mean(0).sub(13.5).abs().max() <= 0.5
    for wrong, message in (([0] * 784, "draw something"), ([0] * 9, "28 x 28"), (None, "28 x 28"), (["x"] * 784, "28")):
        with pytest.raises(ZooError, match=message):
            editing.drawn(wrong, vae)


def test_a_picture_of_ones_own(vae, tmp_path):
    paper = np.full((60, 60), 255, np.uint8)
    paper[20:40, 28:32] = 0
    Image.fromarray(paper).save(tmp_path / "ink.png")
    x = editing.read(str(tmp_path / "ink.png"), vae)
    assert x.shape == (1, 1, 28, 28) and x[0, 0, 13, 13] == 1 and x[0, 0, 0, 0] == 0
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(ZooError, match=r"text\.png cannot be read: it is not a picture"):
        editing.read(str(tmp_path / "text.png"), vae)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ZooError, match="the file is empty"):
        editing.read(str(tmp_path / "empty.png"), vae)
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(ZooError, match="the file has 95 MB: 10 MB are the most"):
        editing.read(str(tmp_path / "large.png"), vae)
    with pytest.raises(ZooError, match="choose a file"):
        editing.read(None, vae)


def test_a_tokenizer_is_edited_as_well():
    model = made(("model=tokenizer", "data=mnist_grey"))
    first = editing.encode(model, editing.fitted(torch.rand(1, 28, 28), editing.shape_of(model)))
    assert len(first) == editing.length(model) == np.prod(editing.form(model))
    other = editing.changed(model, first, 1, (first[1] + 1) % editing.categories(model))
    html = editing.pictures(model, None, other, 1, "fine")
    assert html.count("data-place=") == len(first) and "data:image/png" in html


# Watch it point -------------------------------------------------------------------------------------------------------


def test_pointers_are_the_models_and_the_tour_is_its_greedy_one(shelf):
    model, points = shelf.load("pointer_net.tsp20", "pointer_net"), pointing.random(12, 4)
    order, seen = pointing.pointers(model, points)
    greedy, _ = model.greedy(model.task.as_trained(torch.tensor(points).unsqueeze(0)), 1)
    assert order == greedy[0, 0].tolist() and sorted(order) == list(range(12))
    for step, p in enumerate(seen, len(order) - len(seen)):
        assert p.sum() == pytest.approx(1, abs=1e-5) and p[order[:step]].sum() == 0 and p.argmax() == order[step]
    rows = pointing.tours(model, points)
    assert [name for name, _, _ in rows][:3] == [
        "pointer network, best start",
        "nearest neighbour",
        "farthest insertion",
    ]
    assert min(length for _, _, length in rows) == pytest.approx(rows[-1][2]) and rows[-1][2] > 2


def test_the_page_grows_step_by_step(shelf, monkeypatch):
    monkeypatch.setattr(pointing, "PAUSE", 0.0)
    pages = list(pointing.watch(shelf.load("pointer_net.tsp20", "pointer_net"), pointing.random(8, 1)))
    assert len(pages) == 8 and "2 of 8" in pages[1] and pages[-1].count("<svg") == 5 and "longer than" in pages[-1]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "write points"),
        ("0.1 nan", "not a finite number"),
        ("0.1 inf", "not a finite number"),
        ("0.1 0.2 0.3", "3 numbers"),
        ("a b", "'a' is not a number"),
        ("0.1 0.2 " * 2000, "2,000 points: 200 are the most"),
        ("__import__('os').system('x') 1", "is not a number"),
    ],
)
def test_points_that_are_none(text, message):
    with pytest.raises(ZooError, match=message):
        pointing.typed(text)


def test_points_from_clicks_texts_and_files(tmp_path):
    assert pointing.typed("0.1 0.2; 0.5,0.9\n1e-1 .3") == [(0.1, 0.2), (0.5, 0.9), (0.1, 0.3)]
    assert pointing.added([(0.1, 0.1)], 0.5, 0.25)[-1] == (0.5, 0.25)
    for x in (None, float("nan"), 2, "0.5", True):
        with pytest.raises(ZooError, match="in the square"):
            pointing.added([], x, 0.5)
    (tmp_path / "cities.csv").write_text("x,y\n0,0\n30,40\n10,5\n")
    assert pointing.read(str(tmp_path / "cities.csv")) == [(0, 0), (30, 40), (10, 5)]
    (tmp_path / "many.csv").write_text("x,y\n" + "".join(f"{i},{i * i % 97}\n" for i in range(2000)))
    with pytest.raises(ZooError, match="2,000 points: 200 are the most here; zoo solve"):
        pointing.read(str(tmp_path / "many.csv"))
    (tmp_path / "nan.csv").write_text("x,y\n0,0\nnan,1\n2,2\n")
    with pytest.raises(ZooError, match="nan"):
        pointing.read(str(tmp_path / "nan.csv"))
    with pytest.raises(ZooError, match="needs at least 3"):
        list(pointing.watch(None, [(0.1, 0.2)]))


# Whose voice ----------------------------------------------------------------------------------------------------------


def test_a_speaker_is_drawn_chosen_or_blended(shelf):
    model = shelf.load("speaker_generator.mix", "speaker_generator")
    content = voices.words_of(model, "4 0")
    names = voices.names_of(model)
    drawn, who = voices.weights(model, "drawn", content, "", [], 3)
    assert sorted(drawn.tolist()) == [0.0, 1.0] and "Drawn" in who
    assert drawn.argmax() == model.sample_speaker(content[:1], seed=3)[0]
    chosen, _ = voices.weights(model, "chosen", content, names[1], [], 3)
    assert chosen.tolist() == [0.0, 1.0]
    blend, who = voices.weights(model, "blended", content, "", [0.6, 0.2, 1.0], 3)
    assert blend.tolist() == pytest.approx([0.75, 0.25]) and "75%" in who and "nobody's voice" in who
    shares, prior = voices.hundred(model, content, 0)
    assert sum(shares) == pytest.approx(1) and abs(shares[0] - prior[0]) < 0.2
    html = voices.say(model, "4 0", "blended", "", [1.0, 1.0], 0)
    assert "data:audio/wav;base64," in html and "data:image/png;base64," in html and "<script" not in html


@pytest.mark.parametrize(
    "text, how, chosen, shares, message",
    [
        ("", "drawn", "", [], "write what to say"),
        ("  \n", "drawn", "", [], "write what to say"),
        ("supercalifragilistic", "drawn", "", [], "cannot say"),
        ("4 " * 13, "drawn", "", [], "13 words: 12 are the most"),
        ("4", "chosen", "nobody", [], "no speaker 'nobody'"),
        ("4", "blended", "", [0, 0], "at least one speaker"),
        ("4", "blended", "", [float("nan"), 1], "at least one speaker"),
        ("4", "shouted", "", [], "a speaker is drawn, chosen, blended"),
    ],
)
def test_what_cannot_be_said(shelf, text, how, chosen, shares, message):
    with pytest.raises(ZooError, match=message):
        voices.say(shelf.load("speaker_generator.mix", "speaker_generator"), text, how, chosen, shares, 0)


# Watch it act ---------------------------------------------------------------------------------------------------------


def test_an_episode_and_its_probabilities(shelf):
    pytest.importorskip("gymnasium", reason="the extra rl is not installed")
    from zoo.data.environments.making import Recipe

    agent, recipe = (
        shelf.load("actor_critic.cartpole", *acting.ARCHS),
        Recipe.of(hub.read("actor_critic.cartpole").data),
    )
    recipe = dataclasses.replace(recipe, max_episode_steps=12)
    calm = list(acting.episode(agent, recipe, "drawn", 0.1, 1))
    hot = list(acting.episode(agent, recipe, "drawn", 5.0, 1))
    assert len(calm) == 13 and all(p.sum() == pytest.approx(1, abs=1e-5) for _, p, _ in calm[:-1])
    assert calm[0][1].max() > hot[0][1].max() > 0.5  # the same state at another temperature
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(calm, acting.episode(agent, recipe, "drawn", 0.1, 1)))
    pages = list(acting.watch(agent, recipe, "most probable", 1.0, 0))
    assert "The episode ended after 12 steps with a return of 12" in pages[-1] and "data:image/jpeg" in pages[-1]
    for policy, temperature, message in (
        ("none", 1.0, "a policy is"),
        ("drawn", 0.0, "temperature"),
        ("drawn", 9, "temp"),
    ):
        with pytest.raises(ZooError, match=message):
            list(acting.episode(agent, recipe, policy, temperature, 0))


# What they choose -----------------------------------------------------------------------------------------------------


SELECTOR = ("experiment=selector_each", "model.k=20", "model.predictor.hidden=[8]", "model.scorer.hidden=[8]")
WRITER = (
    *("model=language_model", "model.gates=hard", "model.network.width=16", "model.network.embedding=8"),
    "model.vocabulary=98",
)


def configured(words: tuple[str, ...]) -> dict:
    from zoo.config.composition import compose, plain

    return plain(compose([*words, "logger=csv", "run=mine"]))


def made(words: tuple[str, ...]):
    """A model as a configuration makes it, before any training."""
    from zoo.config.objects import from_config
    from zoo.data.texts import ASCII

    model = from_config(configured(words)["model"]).eval()
    if words == WRITER:
        model.about["unit"], model.about["entries"] = "character", list(ASCII)
    return model


def test_a_selector_shows_what_it_looks_at():
    model = made(SELECTOR)
    html = choosing.chosen(model, torch.rand(1, 1, 28, 28), 3)
    assert "It saw 20 of 784 columns" in html and "; it is 3." in html and html.count("<img") == 2


def test_a_mixture_shows_its_experts():
    model = made(("model=mixture_of_experts",))
    html = choosing.chosen(model, torch.rand(1, 1, 28, 28), None)
    assert "It goes to expert" in html and "Probability of each expert" in html


def test_next_words_and_gates():
    model = made(WRITER)
    html = choosing.next_words(model, "To be <b>", 1.0, 0)
    assert "What comes next" in html and "Open gates" in html and "<b>" not in html
    for text, message in (
        ("", "write a few words"),
        (" \n ", "write a few words"),
        ("x" * 5000, "5,000 characters"),
        ("\N{SNOWMAN}", "never seen"),
    ):
        with pytest.raises(ZooError, match=message):
            choosing.next_words(model, text, 1.0, 0)


def test_a_text_of_ones_own(tmp_path):
    (tmp_path / "mine.txt").write_text("a" * 3000 + "end")
    assert choosing.read_text(str(tmp_path / "mine.txt")) == "a" * 1997 + "end"
    (tmp_path / "none.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ZooError, match=r"none\.txt is empty, or no text"):
        choosing.read_text(str(tmp_path / "none.txt"))


def test_what_is_not_there_is_said_with_what_to_train(monkeypatch):
    monkeypatch.setattr(shared.Shelf, "names", lambda self, *archs: [])
    assert "zoo train language_model run=runs/mine" in choosing.missing(shared.Shelf())


# Mistakes -------------------------------------------------------------------------------------------------------------


def test_mistakes_are_told_where_the_output_would_be():
    @shared.polite
    def one(x: int) -> str:
        raise ZooError("<no> way")

    @shared.polite
    def steps(x: int) -> Iterator[tuple[str, int]]:
        yield "fine", 1
        raise ValueError("odd")

    assert "&lt;no&gt; way" in one(1) and 'role="alert"' in one(1)
    assert shared.count_outputs(one) == 1 and shared.count_outputs(steps) == 2
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    fine, told = steps(1)
    assert fine == ("fine", 1) and 'role="alert"' in told[0] and "odd" in told[0] and len(told) == 2
