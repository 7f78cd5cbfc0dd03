"""metrics.csv, which survives everything."""

from zoo.training.loggers import CSVLogger, read_metrics, run_id


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
