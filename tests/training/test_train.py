from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.distribution import gaussian_crps, gaussian_log_score, student_t_log_score
from models.errors import CandlewickError
from models.features import CATALOGUE
from models.recurrent import Lstm
from models.spec import Network
from tests.training.make_candles import make_table, with_gaps
from training.chunks import BURN_IN_SHORTFALL, LOSS_BARS, Chunks, Windows
from training.dataset import Dataset, build_dataset
from training.loss import dof_of, log_dof_of, training_loss
from training.progress import Step
from training.split import Fractions, Span, Split, split_time
from training.train import PATIENCE, Recipe, drop_features, fit_network, set_feature_scale, validation_score

SMALL = Network(kind="lstm", hidden=8, layers=1)
PAIR = Network(kind="lstm", hidden=8, layers=1, members=2)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(with_gaps(make_table(bars=3_200), [(1, 2_000, 7), (2, 2_500, 3)]), 16, 3)


@pytest.fixture(scope="module")
def split(dataset: Dataset) -> Split:
    return split_time(dataset.labelled.sum(axis=0), Fractions(), dataset.horizon_bars)


def planted(dataset: Dataset) -> Dataset:
    """A range label that is the candle's own range before noise: easy to learn."""
    known = np.tanh(dataset.features[..., CATALOGUE.index("range")].astype(float) / 3)
    noise = np.random.default_rng(5).normal(size=known.shape)
    return replace(dataset, y_range=known + 0.1 * noise, y_return=noise)


@pytest.mark.parametrize("shift", [0, 1, 77, LOSS_BARS - 1])
def test_chunks_give_every_label_of_a_span_exactly_once(dataset: Dataset, split: Split, shift: int) -> None:
    chunks = Chunks(dataset)
    starts = chunks.starts(split.train, shift)
    _, y, counts = chunks.take(starts, split.train)
    rows = dataset.rows(*split.train)
    assert int(counts.sum()) == len(rows[0])
    found, wanted = y[counts][:, 1].double().sum(), dataset.y_range[rows].sum()
    assert float(found) == pytest.approx(wanted, rel=1e-5)
    assert counts.any(dim=1).all()


def test_chunks_know_the_window_of_each_loss_but_for_the_shortfall(dataset: Dataset, split: Split) -> None:
    chunks = Chunks(dataset)
    starts = chunks.starts(split.train)
    x, _, counts = chunks.take(starts, split.train)
    assert x.shape[1] == 16 - BURN_IN_SHORTFALL + LOSS_BARS
    assert not counts[:, : 16 - BURN_IN_SHORTFALL].any()
    chunk, place = (int(index[-1]) for index in torch.nonzero(counts, as_tuple=True))
    symbol, slot = int(starts[chunk, 0]), int(starts[chunk, 1]) + place - chunks.burn_in
    np.testing.assert_array_equal(x[chunk, place], dataset.features[symbol, slot])
    np.testing.assert_array_equal(x[chunk, place - 10], dataset.features[symbol, slot - 10])


def test_windows_are_those_of_the_dataset_with_the_labels_of_their_ends(dataset: Dataset, split: Split) -> None:
    batches = Windows(dataset)
    starts = batches.starts(split.validation)
    x, y, counts = batches.take(starts, split.validation)
    rows = dataset.rows(*split.validation)
    np.testing.assert_array_equal(x, np.concatenate([*dataset.windows(rows)]))
    np.testing.assert_allclose(y[:, 0], dataset.y_return[rows], rtol=1e-6)
    np.testing.assert_allclose(y[:, 1], dataset.y_range[rows], rtol=1e-6)
    assert counts.all()


@pytest.mark.parametrize("kind", [Chunks, Windows])
def test_batches_drawn_cover_every_label_as_often_as_passes_say(
    dataset: Dataset, split: Split, kind: type[Chunks] | type[Windows]
) -> None:
    batches = kind(dataset)
    passes, most = batches.epochs(split.train)
    starts = batches.drawn(split.train, passes, np.random.default_rng(3))
    counted = sum(int(batches.take(starts[i : i + 64], split.train).counts.sum()) for i in range(0, len(starts), 64))
    assert counted == passes * len(dataset.rows(*split.train)[0])
    assert most >= 16
    assert len(starts) <= most * batches.size


def test_training_loss_is_the_surprise_of_the_return_and_the_crps_of_the_range() -> None:
    rng = np.random.default_rng(0)
    outputs, y = rng.normal(size=(50, 4)), rng.normal(size=(50, 2))
    log_dof = torch.tensor(1.2, dtype=torch.float64)
    found = training_loss(torch.tensor(outputs), torch.tensor(y), log_dof)
    wanted = 0.3 * student_t_log_score(y[:, 0], outputs[:, 0], np.exp(outputs[:, 1]), float(dof_of(log_dof)))
    wanted = wanted + 3.0 * gaussian_crps(y[:, 1], outputs[:, 2], np.exp(outputs[:, 3]))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9)


def test_drop_features_silences_whole_features_of_a_chunk_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    mean = torch.arange(23.0)
    x = mean + torch.randn(400, 5, 23)
    dropped = drop_features(x, mean, torch.Generator().manual_seed(0))
    silent = (dropped == mean).all(dim=1)
    assert torch.equal(silent, (dropped == mean).any(dim=1))
    assert 0.08 < float(silent.float().mean()) < 0.12
    assert float((dropped - x).mean()) == pytest.approx(0.0, abs=0.005)
    heard = ~silent[:, None].expand_as(x)
    assert torch.allclose(dropped[heard], (mean + (x - mean) / 0.9)[heard], atol=1e-4)


def test_set_feature_scale_knows_only_the_span(dataset: Dataset, split: Split) -> None:
    network = Lstm(23, 8, 1)
    set_feature_scale(network, dataset, split.train)
    features = dataset.features.copy()
    features[:, split.train.stop :] = 1e6
    other = Lstm(23, 8, 1)
    set_feature_scale(other, replace(dataset, features=features), split.train)
    assert torch.equal(network.feature_mean, other.feature_mean)
    assert torch.equal(network.feature_sd, other.feature_sd)
    assert float(network.feature_sd.min()) > 0


def test_fit_network_learns_a_planted_signal(dataset: Dataset, split: Split) -> None:
    easy = planted(dataset)
    fitted = fit_network(easy, split, Recipe(SMALL, 30, 0))
    climate = easy.y_range[easy.rows(*split.train)]
    validation = easy.rows(*split.validation)
    of_climate = 3.0 * gaussian_crps(easy.y_range[validation], climate.mean(), climate.std()).mean()
    of_return = 0.3 * gaussian_log_score(easy.y_return[validation], 0.0, 1.0).mean()
    assert fitted.validation_score < 0.8 * of_climate + of_return
    assert 2 < fitted.dof <= 100


def test_fit_network_of_one_seed_is_the_same_twice_and_of_another_is_not(dataset: Dataset, split: Split) -> None:
    first, again, other = (fit_network(dataset, split, Recipe(SMALL, 2, seed)).network for seed in (3, 3, 4))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.state_dict()["head.weight"], other.state_dict()["head.weight"])


def test_fit_network_keeps_the_best_epoch_and_stops_when_patience_ends(dataset: Dataset, split: Split) -> None:
    rng = np.random.default_rng(6)
    noise = replace(
        dataset, y_range=rng.normal(size=dataset.y_range.shape), y_return=rng.normal(size=dataset.y_range.shape)
    )
    steps: list[Step] = []
    fitted = fit_network(noise, split, Recipe(Network(kind="lstm", hidden=32, layers=1), 60, 0), steps.append)
    scores = [step.validation_score for step in steps if step.validated]
    assert fitted.validation_score == min(scores)  # type: ignore[type-var]
    assert scores.index(fitted.validation_score) + 1 == fitted.best_epoch
    assert fitted.epochs == len(scores) == fitted.best_epoch + PATIENCE < 60
    kept = validation_score(fitted.network, Chunks(noise), split.validation, log_dof_of(fitted.dof))
    assert kept == pytest.approx(fitted.validation_score, rel=1e-5)


def test_fit_network_tells_every_batch_and_the_end_of_every_epoch(dataset: Dataset, split: Split) -> None:
    steps: list[Step] = []
    fit_network(dataset, split, Recipe(SMALL, 2, 0), steps.append)
    assert [step.epoch for step in steps if step.validated] == [1, 2]
    assert all(0 < step.done <= 1 and step.eta_s >= 0 for step in steps)
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].done == 1
    assert steps[0].validation_score is None
    assert steps[-1].validation_score is not None


def test_fit_network_with_a_loss_that_is_no_number_stops_with_the_mend(dataset: Dataset, split: Split) -> None:
    y_range = dataset.y_range.copy()
    y_range[0, split.train.first + 100] = np.nan
    with pytest.raises(CandlewickError, match=r"diverged in epoch 1, batch \d+: the loss is not finite. Look for"):
        fit_network(replace(dataset, y_range=y_range), split, Recipe(SMALL, 2, 0))


def test_fit_network_whose_loss_explodes_stops_with_the_mend(dataset: Dataset, split: Split) -> None:
    y_range = 4.0 + 1e-3 * np.random.default_rng(2).normal(size=dataset.y_range.shape)
    y_range[:, split.validation.first : split.validation.stop] = -4.0  # unlike anything that trained
    with pytest.raises(
        CandlewickError, match=r"exploded in epoch \d+: .* on validation rows, .* before training. Look"
    ):
        fit_network(replace(dataset, y_range=y_range), split, Recipe(SMALL, 10, 0))


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(Network(kind="gru", hidden=8, layers=1), 3, 0),
        Recipe(Network(kind="mlp", hidden=16, layers=1), 6, 0),
        Recipe(SMALL, 6, 0, windows=True),
        Recipe(PAIR, 6, 0),
    ],
    ids=["gru", "mlp", "lstm on windows", "ensemble"],
)
def test_fit_network_of_any_kind_learns_a_planted_signal(dataset: Dataset, split: Split, recipe: Recipe) -> None:
    easy = planted(dataset)
    fitted = fit_network(easy, split, recipe)
    first, best = fitted.history[0].validation_score, fitted.validation_score
    assert best < first - 0.05
    assert fitted.history[fitted.best_epoch - 1].epoch == fitted.best_epoch
    assert 2 < fitted.dof <= 100


def test_fit_network_of_an_ensemble_is_its_members_apart_from_seeds_one_apart(dataset: Dataset, split: Split) -> None:
    steps: list[Step] = []
    together = fit_network(dataset, split, Recipe(PAIR, 2, 5), steps.append)
    apart = [fit_network(dataset, split, Recipe(SMALL, 2, seed)) for seed in (5, 6)]
    state = together.network.state_dict()
    for k, one in enumerate(apart):
        for name, value in one.network.state_dict().items():
            assert torch.equal(state[name if "feature" in name else f"members.{k}.{name}"], value)
    assert together.dof == pytest.approx((apart[0].dof + apart[1].dof) / 2)
    assert together.validation_score < max(one.validation_score for one in apart)
    assert [epoch[:3] for epoch in together.history] == [epoch[:3] for one in apart for epoch in one.history]
    assert [(step.member, step.epoch) for step in steps if step.validated] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].done == 1
    assert {step.members for step in steps} == {2}


def test_fit_network_tells_its_history(dataset: Dataset, split: Split) -> None:
    steps: list[Step] = []
    fitted = fit_network(dataset, split, Recipe(SMALL, 3, 0), steps.append)
    told = [(step.epoch, step.train_loss, step.validation_score, step.member) for step in steps if step.validated]
    assert [tuple(epoch) for epoch in fitted.history] == told


def test_fit_network_with_a_lookback_of_one_bar_trains() -> None:
    short = build_dataset(make_table(bars=2_400), 1, 1)
    split = split_time(short.labelled.sum(axis=0), Fractions(), 1)
    assert np.isfinite(fit_network(short, split, Recipe(SMALL, 1, 0)).validation_score)


def test_fit_network_sees_no_label_outside_training_and_validation(dataset: Dataset, split: Split) -> None:
    y_range = dataset.y_range.copy()
    y_range[:, split.test.first :] = 50.0
    y_range[:, split.train.stop : split.validation.first] = 50.0
    y_range[:, split.validation.stop : split.test.first] = 50.0
    mine, other = (fit_network(d, split, Recipe(SMALL, 2, 0)) for d in (dataset, replace(dataset, y_range=y_range)))
    assert mine.validation_score == other.validation_score
    assert torch.equal(mine.network.state_dict()["head.weight"], other.network.state_dict()["head.weight"])


def test_span_counts_its_slots() -> None:
    assert (Span(3, 10).slots, Span(10, 3).slots) == (7, 0)
