"""The page as a server gives it. Needs the extra ``demo``."""

import gc
import re
import socket
import sys

import pytest

from zoo.cli import main
from zoo.demo import app, shared

pytest.importorskip("gradio", reason="the extra demo is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of what the library uses

TABS = (
    *("Softmax or Gumbel?", "A code you can edit", "Watch it point", "Whose voice?", "Watch it act"),
    *("What they choose", "Train a little"),
)


@pytest.fixture(scope="module")
def client():
    from starlette.testclient import TestClient

    with TestClient(app.application(shared.Shelf()), base_url="http://127.0.0.1") as client:
        yield client
    del client
    gc.collect()  # what the library leaves open: here, where its warnings do not count


@pytest.fixture(scope="module")
def config(client):
    return client.get("/config").json()


def test_every_tab_is_there_and_every_control_has_a_label(config):
    assert [c["props"]["label"] for c in config["components"] if c["type"] == "tabitem"] == list(TABS)
    for component in config["components"]:
        if component["type"] in ("slider", "dropdown", "radio", "checkbox", "textbox", "file"):
            assert component["props"]["label"], component


def test_the_page_asks_for_nothing_from_elsewhere(client, config):
    """Neither by what is in it, nor by the browser's leave; and nothing is reported."""
    page = client.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    loaded = re.findall(r"""<(?:script|link|img|iframe)[^>]*\b(?:src|href)=["']([^"']+)""", page.text)
    loaded += re.findall(r"""@import[^;]*|url\(["']?(https?:[^)]*)""", page.text)
    assert loaded and not [one for one in loaded if re.match(r"(https?:)?//", one)]
    assert config["analytics_enabled"] is False and not config.get("is_space")
    styles = client.get("/theme.css").text
    assert "fonts.googleapis" not in styles and "https://" not in styles


def test_an_upload_that_is_too_large_is_refused_and_the_server_lives(client):
    large = {"files": ("large.png", b"\0" * (shared.UPLOAD + 1_000_000))}
    answer = client.post("/gradio_api/upload", files=large)
    assert answer.status_code == 413 and "10" in answer.text
    assert client.get("/config").status_code == 200


def ask(client, config, element: str, event: str, *data: object):
    """The answer to what the page does on an event: of the functions that need no queue."""
    number = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == element)
    function = next(d for d in config["dependencies"] if [number, event] in [list(t) for t in d["targets"]])
    body = {"data": list(data), "fn_index": function["id"], "session_hash": "s"}
    return client.post("/gradio_api/run/predict", json=body)


SLIDERS = (3, 1.0, 0.0, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0)


CHOICES = ("Gumbel", False, "as drawn", "linear: v·z", None)


def test_the_slider_changes_the_picture(client, config):
    one, two = (ask(client, config, "tau", "input", *SLIDERS, t, *CHOICES).json()["data"][0] for t in (0.5, 2.0))
    assert "Mean gradient at tau 0.5." in one and "Mean gradient at tau 2." in two and one.count("<svg") == 6


@pytest.mark.parametrize("value", [1e9, -1, "NaN", "'); import os", None, [1]])
def test_what_no_slider_can_give_gets_a_sentence(client, config, value):
    answer = ask(client, config, "tau", "input", *SLIDERS, value, *CHOICES)
    refused = answer.status_code == 500 and "error" in answer.json()  # by the library itself
    assert refused or "tau is a number from 0.05 to 5" in answer.json()["data"][0]
    assert "Traceback" not in answer.text and client.get("/config").status_code == 200


def test_the_command_needs_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr(sys, "argv", ["zoo", "demo"])
    with pytest.raises(SystemExit, match=r"needs Gradio .*pip install 'discrete-latent-zoo\[demo\]'"):
        main()


def test_a_port_that_is_taken(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(app, "application", lambda shelf: None)
        monkeypatch.setattr(sys, "argv", ["zoo", "demo", f"port={taken.getsockname()[1]}"])
        with pytest.raises(SystemExit, match=r"cannot listen at 127.0.0.1:\d+: address already in use; give another"):
            main()
