from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from models.distribution import (
    StudentTCdf,
    gaussian_cdf,
    gaussian_crps,
    gaussian_log_score,
    gaussian_quantile,
    lognormal_mean,
    student_t_cdf,
    student_t_crps,
    student_t_log_score,
    student_t_quantile,
)

DOFS = [2.05, 3.0, 4.7, 30.0]
CASES = [(0.0, 0.0, 1.0), (0.3, -0.2, 0.7), (-25.0, 0.1, 1.3), (4.0, 5.0, 0.01)]  # value, location, scale
laws = settings(derandomize=True, deadline=None, max_examples=50)
values = st.floats(-40, 40)
scales = st.floats(0.01, 20)


def integrated_crps(frozen: stats.rv_continuous, value: float) -> float:
    """The definition: integral of (cdf(x) - 1{x >= value}) squared."""
    below, _ = integrate.quad(lambda x: frozen.cdf(x) ** 2, -np.inf, value, epsabs=1e-12, limit=400)
    above, _ = integrate.quad(lambda x: frozen.sf(x) ** 2, value, np.inf, epsabs=1e-12, limit=400)
    return float(below + above)


@pytest.mark.parametrize("dof", DOFS)
@pytest.mark.parametrize(("value", "location", "scale"), CASES)
def test_student_t_crps_equals_its_integral(value: float, location: float, scale: float, dof: float) -> None:
    expected = integrated_crps(stats.t(dof, location, scale), value)
    assert student_t_crps(value, location, scale, dof) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("value", "location", "scale"), CASES)
def test_gaussian_crps_equals_its_integral(value: float, location: float, scale: float) -> None:
    expected = integrated_crps(stats.norm(location, scale), value)
    assert gaussian_crps(value, location, scale) == pytest.approx(expected, rel=1e-6)


@laws
@given(value=values, location=values, scale=scales, dof=st.floats(1.5, 1e5))
def test_student_t_log_score_and_cdf_equal_scipy(value: float, location: float, scale: float, dof: float) -> None:
    frozen = stats.t(dof, location, scale)
    assert student_t_log_score(value, location, scale, dof) == pytest.approx(-frozen.logpdf(value), rel=1e-7, abs=1e-7)
    assert student_t_cdf(value, location, scale, dof) == pytest.approx(frozen.cdf(value), rel=1e-9)


@laws
@given(value=values, location=values, scale=scales)
def test_gaussian_log_score_and_cdf_equal_scipy(value: float, location: float, scale: float) -> None:
    frozen = stats.norm(location, scale)
    assert gaussian_log_score(value, location, scale) == pytest.approx(-frozen.logpdf(value), rel=1e-9)
    assert gaussian_cdf(value, location, scale) == pytest.approx(frozen.cdf(value), rel=1e-9)


@laws
@given(probability=st.floats(1e-6, 1 - 1e-6), location=values, scale=scales, dof=st.floats(2.01, 1e5))
def test_quantiles_are_the_inverse_of_their_cdf(probability: float, location: float, scale: float, dof: float) -> None:
    student = student_t_quantile(probability, location, scale, dof)
    assert student_t_cdf(student, location, scale, dof) == pytest.approx(probability, rel=1e-6)
    gaussian = gaussian_quantile(probability, location, scale)
    assert gaussian_cdf(gaussian, location, scale) == pytest.approx(probability, rel=1e-6)


def test_student_t_of_very_many_degrees_of_freedom_is_gaussian() -> None:
    value = np.linspace(-6, 6, 25)
    np.testing.assert_allclose(student_t_crps(value, 0.5, 2.0, 1e6), gaussian_crps(value, 0.5, 2.0), rtol=1e-5)
    np.testing.assert_allclose(
        student_t_log_score(value, 0.5, 2.0, 1e6), gaussian_log_score(value, 0.5, 2.0), rtol=1e-4
    )


def test_central_interval_of_the_quantile_covers_what_it_says() -> None:
    drawn = stats.t(4.0).rvs(200_000, random_state=np.random.default_rng(1)) * 0.7 + 0.2
    factor = student_t_quantile(0.9, 0.0, 1.0, 4.0)
    assert np.mean(np.abs(drawn - 0.2) <= 0.7 * factor) == pytest.approx(0.8, abs=0.003)


@pytest.mark.parametrize("scale", [0.6, 1.5])
def test_crps_and_log_score_of_the_true_scale_are_least(scale: float) -> None:
    """Proper scores: neither a narrower nor a wider forecast scores better on average."""
    random = np.random.default_rng(2)
    student, gaussian = stats.t(5.0).rvs(100_000, random_state=random), random.normal(size=100_000)
    assert student_t_crps(student, 0.0, 1.0, 5.0).mean() < student_t_crps(student, 0.0, scale, 5.0).mean()
    assert student_t_log_score(student, 0.0, 1.0, 5.0).mean() < student_t_log_score(student, 0.0, scale, 5.0).mean()
    assert gaussian_crps(gaussian, 0.0, 1.0).mean() < gaussian_crps(gaussian, 0.0, scale).mean()
    assert gaussian_log_score(gaussian, 0.0, 1.0).mean() < gaussian_log_score(gaussian, 0.0, scale).mean()


def test_scores_broadcast_over_rows_and_forecasts() -> None:
    value, location = np.zeros((5, 1)), np.linspace(-1, 1, 3)
    assert student_t_crps(value, location, 1.0, 4.0).shape == (5, 3)
    assert gaussian_log_score(value, location, np.ones(3)).shape == (5, 3)


@pytest.mark.parametrize(("location", "scale"), [(0.0, 0.3), (-2.0, 1.0)])
def test_lognormal_mean_equals_its_integral(location: float, scale: float) -> None:
    expected, _ = integrate.quad(lambda x: np.exp(x) * stats.norm(location, scale).pdf(x), -15, 15)
    assert lognormal_mean(location, scale) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("dof", [2.0, 2.3, 5.0, 40.0, 1e6])
def test_student_t_cdf_table_equals_the_function(dof: float) -> None:
    z = np.concatenate([np.linspace(-60, 60, 40_001), np.sinh(np.linspace(-14, 14, 20_001)), [0.0]])
    probability = StudentTCdf(dof)(z)
    np.testing.assert_allclose(probability, student_t_cdf(z, 0.0, 1.0, dof), atol=1e-9, rtol=0)
    assert probability[-1] == pytest.approx(0.5, abs=1e-12)


def test_student_t_cdf_table_of_what_is_no_number_is_none() -> None:
    probability = StudentTCdf(4.0)(np.array([np.nan, 0.0]))
    assert np.isnan(probability[0])
    assert probability[1] == pytest.approx(0.5)


def test_student_t_cdf_table_beyond_its_reach_stays_a_probability() -> None:
    probability = StudentTCdf(2.5)(np.array([-np.inf, -1e9, 1e9, np.inf]))
    np.testing.assert_allclose(probability, [0, 0, 1, 1], atol=1e-12)
    assert ((probability >= 0) & (probability <= 1)).all()
