"""Protects the plan of a large run: it agrees with published ones, its parts add up, and what cannot be is told."""

import pytest

from ai4india_lib.__main__ import main
from ai4india_lib.model.config import DecoderConfig
from ai4india_lib.training.cluster import GPUS, PUBLISHED, SOURCES, Wish, memory_of, plan_run, shape_for, wish_of
from ai4india_lib.tuning.finetuning import training_memory


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_runs_come_out_within_30_percent(name):
    assert plan_run(wish_of(PUBLISHED[name])).gpu_hours == pytest.approx(PUBLISHED[name].gpu_hours, rel=0.3)


def test_some_of_them_gave_no_rate():
    assert sum(not run.fitted for run in PUBLISHED.values()) >= 3


def test_every_rate_has_a_source():
    told = " ".join(SOURCES)
    assert all(
        rate in told for rate in ("flops", "memory", "watts", "inside", "between", "rupees", "one_machine", "cluster")
    )


def test_memory_is_that_of_fine_tuning_and_is_shared_out():
    wish = Wish(1e9, gpus=8, context_size=2048, tokens_per_pass=2048)
    alone, cut = memory_of(wish, sharded=False), memory_of(wish, sharded=True)
    assert sum(alone[part] for part in ("weights", "gradients", "AdamW")) == 16e9
    assert all(cut[part] == alone[part] / 8 for part in ("weights", "gradients", "AdamW"))
    config = DecoderConfig(32768, 2048, 16, 20, 0, context_size=2048)
    ours = training_memory(config, 2048)
    wish = Wish(float(config.num_parameters()), layers=20, width=2048, context_size=2048)
    for theirs, name in (("weights", "weights"), ("gradients", "gradients"), ("AdamW", "optimizer")):
        assert memory_of(wish, sharded=False)[theirs] == ours[name]
    assert memory_of(wish, sharded=False)["activations"] == pytest.approx(ours["activations"], rel=0.05)


def test_a_model_that_does_not_fit_is_cut_up_and_one_gpu_sends_nothing():
    assert not plan_run(Wish(1e9)).is_sharded and plan_run(Wish(8e9)).is_sharded
    alone = plan_run(Wish(1e9, gpus=1))
    assert alone.sent == 0 and not plan_run(Wish(8e9, gpus=1)).is_sharded
    assert plan_run(Wish(1e9, gpus=2)).sent == pytest.approx(4e9), "a sum in a ring: twice half of all gradients"
    slow = plan_run(Wish(8e9, gpus=4096, gpu="h100"))
    assert slow.sending > slow.computing and slow.tokens_per_second == pytest.approx(2**22 / slow.sending)


def test_what_is_given_counts():
    usual, wish = plan_run(Wish(1e9)), {"parameters": 1e9}
    assert plan_run(Wish(**wish, utilisation=GPUS["h100"].one_machine / 2)).days == pytest.approx(2 * usual.days)
    assert plan_run(Wish(**wish, rupees=184)).rupees == pytest.approx(2 * usual.rupees)
    assert plan_run(Wish(**wish, watts=350)).kwh == pytest.approx(usual.kwh / 2)
    assert plan_run(Wish(**wish, tokens=40e9)).days == pytest.approx(2 * usual.days)
    assert plan_run(Wish(**wish, gpu="h200")).rupees is None


def test_shapes_are_like_those_of_known_models():
    for parameters, layers, width in ((7e9, 32, 4096), (69e9, 80, 8192), (124e6 * 0.69, 12, 768)):
        assert shape_for(parameters) == pytest.approx((layers, width), rel=0.4)


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"parameters": 0}, "parameters=0"),
        ({"parameters": 1e9, "gpus": 0}, "gpus=0"),
        ({"parameters": 1e9, "gpu": "abacus"}, "no GPU is called 'abacus' here"),
        ({"parameters": 1e9, "utilisation": 2.0}, "utilisation=2"),
    ],
)
def test_what_cannot_be_is_told(wish, told):
    with pytest.raises(ValueError, match=told):
        Wish(**wish)


def test_the_command_prints_the_plan_with_the_sources(capsys):
    assert main(["plan", "--parameters", "8B", "--tokens", "100B", "--gpus", "64", "--check"]) == 0
    told = capsys.readouterr().out
    assert (
        "GPT-2 in 1.65 h" in told and "each GPU holds a part of the model" in told and "8.0 billion parameters" in told
    )
    assert "100.0 billion tokens" in told and "e+" not in told
    assert all(source in told for source in SOURCES.values())
    assert main(["plan", "--gpus", "8"]) == 1
    assert "--parameters 1B" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["plan", "--parameters", "many"])
    assert "'many' is no number: write 350M, 8B or 15T" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("8B", "8.0 billion parameters (34 layers"),
        ("999960000", "1.0 billion parameters"),
        ("350M", "350.0 million parameters"),
        ("5000", "5,000 parameters (1 layer of width 20), 100,000 tokens"),
    ],
)
def test_numbers_are_said_as_people_say_them(capsys, parameters, said):
    assert main(["plan", "--parameters", parameters]) == 0
    assert capsys.readouterr().out.startswith(said)
