"""The table of the 70/30 example."""

from zoo.config.composition import compose, plain
from zoo.lab import compare_speaker


def test_the_table_counts_seeds_that_found_the_speakers():
    heard = ("first_voice", "code_match", "hybrid_rate", "entropy")
    scores = [
        {"test/accuracy": accuracy, "test/nmi": 0.9, "test/prior_tv": off}
        | {f"test/{kind}{name}": value for kind, value in (("", 0.25), ("mean_", 0.75)) for name in heard}
        for accuracy, off in ((1.0, 0.02), (0.98, 0.06), (0.9, 0.01), (0.97, 0.05), (1.0, 0.0))
    ]
    drawn, mean = compare_speaker.rows("reinmax", scores)
    assert "| 0.98 (1.00, 0.98, 0.90, 0.97, 1.00) |" in drawn and "| 3 of 5 |" in drawn and drawn.count("0.25") == 4
    assert mean.count("0.75") == 4 and "of 5" not in mean
    assert drawn.count("|") == mean.count("|") == 11


def test_the_mix_is_left_to_the_relaxation():
    for example, speakers, guide in (("mix", 2, 0), ("six", 6, 100)):
        model = plain(compose([*compare_speaker.EXAMPLES[example], "run=x"]))["model"]
        assert (model["speakers"], model["guide"]) == (speakers, guide)
