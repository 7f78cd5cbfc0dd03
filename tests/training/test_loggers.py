"""metrics.csv, which survives everything, and other loggers beside it."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from zoo.config import from_config
from zoo.config.composition import compose, plain
from zoo.errors import ZooError
from zoo.training import loggers
from zoo.training.loggers import CSVLogger, WandbSettings, read_metrics, run_id


def test_rows_are_appended_and_the_later_one_counts(tmp_path):
    path = tmp_path / "metrics.csv"
    CSVLogger(path).log_metrics({"a": 1.0, "b": 2.0}, step=10)
    CSVLogger(path).log_metrics({"a": 3.0, "epoch": 4}, step=20)
    CSVLogger(path).log_metrics({"a": 5.0}, step=20)
    assert path.read_text().splitlines()[0] == "step,name,value"
    assert read_metrics(path) == {"a": [(10, 1.0), (20, 5.0)], "b": [(10, 2.0)]}


def test_a_line_cut_short_is_left_out(tmp_path):
    path = tmp_path / "metrics.csv"
    CSVLogger(path).log_metrics({"a": 1.0, "b": 2.0}, step=10)
    path.write_text(path.read_text().rstrip()[:-4])
    assert read_metrics(path) == {"a": [(10, 1.0)]}


def test_a_run_keeps_its_wandb_id(tmp_path):
    assert run_id(tmp_path) == run_id(tmp_path) and len(run_id(tmp_path)) == 12


def test_several_loggers_by_name():
    config = plain(compose(["model=polynomial", "logger=[csv,wandb,tensorboard,mlflow]", "run=x"]))["logger"]
    assert {name for name, value in config.items() if value} == {"wandb", "tensorboard", "mlflow"}
    with pytest.raises(ZooError, match=r"no logger=tensorbord\. Did you mean 'tensorboard'"):
        compose(["model=polynomial", "logger=[csv,tensorbord]"])


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_package_that_is_missing_is_named_with_its_extra(name, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda package: None)
    config = plain(compose(["model=polynomial", f"logger={name}", "run=x"]))["logger"]
    with pytest.raises(ZooError, match=rf"logger={name} needs a package: pip install 'discrete-latent-zoo\[loggers\]'"):
        from_config(config, where="logger")


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
@pytest.mark.filterwarnings("ignore")
def test_numbers_go_to_the_run_folder_and_a_resumed_run_goes_on(name, tmp_path, monkeypatch):
    pytest.importorskip(name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    config = plain(compose(["model=polynomial", f"logger={name}", "run=x"]))["logger"]
    kept = []
    for step in range(2):
        logger = from_config(config, where="logger")[name].logger(tmp_path, {})
        logger.log_metrics({"a": 1.0}, step=step)
        logger.finalize("success")
        kept.append(getattr(logger, "run_id", None))
    assert kept[0] == kept[1]
    assert list(tmp_path.glob("tensorboard/events*" if name == "tensorboard" else "mlflow.db"))
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.slow
def test_the_table_of_a_sweep_is_shown_offline_too(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    rows = [["rloo", ""], ["reinmax", 0.5]]
    WandbSettings(project="sweeps").show_table(tmp_path / "sweep", ["relaxation", "best"], rows)
    (table,) = tmp_path.glob("sweep/wandb/offline-run-*/files/media/table/comparison*.json")
    content = json.loads(table.read_text())
    assert content["columns"] == ["relaxation", "best"] and content["data"] == [["rloo", None], ["reinmax", 0.5]]


def test_a_server_that_answers_is_reachable_whatever_it_says():
    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(403)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.handle_request, daemon=True).start()
        assert loggers.unreachable(address) == ""
    assert address in loggers.unreachable(address)  # nobody is there any more
    assert "nonsense" in loggers.unreachable("nonsense")
