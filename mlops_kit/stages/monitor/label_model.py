"""How labels are distributed given the scores: calibrated probabilities, with their uncertainty.

The labels of a window are uncertain even if nothing has changed since the review. Each label is
drawn with a probability; that probability is itself estimated from the reference; and the labels of
one day, or of a window that is not like the reference, may be high or low together. The labels that
``LabelModel.simulate`` draws have all of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from mlops_kit.core.lazy import np
from mlops_kit.stats.block_effects import (
    BlockEffects,
    encode_blocks,
    estimate_block_effects,
    make_no_effects,
)
from mlops_kit.stats.bootstrap import MIN_BLOCKS, SamplingDesign
from mlops_kit.stats.calibration import choose_spline_knots, make_spline_basis
from mlops_kit.stats.weights import compute_effective_rows

if TYPE_CHECKING:
    from sklearn.isotonic import IsotonicRegression

# Harrell, "Regression modeling strategies" (2015), table 2.3, for seven knots.
_KNOT_QUANTILES = (0.025, 0.1833, 0.3417, 0.5, 0.6583, 0.8167, 0.975)
_MIN_PROBABILITY = 1e-9  # a score of 0 or 1 is treated as this far from it
_LARGEST_LOGIT = 20.0  # below that of such a score
_MIN_ISOTONIC_ROWS = 5_000
_STACKING_FOLDS = 5
_STACKING_WEIGHTS = 21  # candidates from 0 to 1
_PENALTY = 1.0  # on each coefficient: what a few rows say against the scores is shrunk
_MAX_NEWTON_STEPS = 50
_NEWTON_TOLERANCE = 1e-8
_MAX_LOGIT = 30.0
# An effect of variance s on the logit pulls the mean probability towards a half, about as if the
# logit were divided by sqrt(1 + s (16 √3 / 15 π)²).
_ATTENUATION = 0.346


class _ClassCurve(NamedTuple):
    """The calibration of one class: its logit is that of the score plus a spline of it.

    Attributes
    ----------
    limits : tuple of float
        The logits that scores of 0 and 1 count as: one beyond those of all other scores.
    knots, scales : ndarray
        Where the splines meet, and the root mean square of each.
    coefficients, inverse_hessian : ndarray
        The coefficients of the splines, and the curvature of the likelihood there.
    steps : IsotonicRegression or None
        Of a large reference the probability itself, which may have steps that no spline follows.
    steps_weight : float
        How much the steps count; the rest of the probability is that of the spline.
    """

    limits: tuple[float, float]
    knots: np.ndarray
    scales: np.ndarray
    coefficients: np.ndarray
    inverse_hessian: np.ndarray
    steps: IsotonicRegression | None = None
    steps_weight: float = 0.0

    def make_basis(self, logits: np.ndarray) -> np.ndarray:
        """Evaluate the scaled splines."""
        basis = make_spline_basis(np.clip(logits, *self.limits), self.knots)
        return np.asarray(basis / self.scales)

    def predict_logits(
        self,
        logits: np.ndarray,
        basis: np.ndarray,
    ) -> np.ndarray:
        """Return the calibrated logit of each row."""
        spline_logits = np.asarray(np.clip(logits, *self.limits) + basis @ self.coefficients)
        if self.steps is None:
            return spline_logits
        steps_probability = self.steps.predict(logits)
        spline_probability = _to_probabilities(spline_logits[:, None])[:, 0]
        difference = steps_probability - spline_probability
        return _to_logits(spline_probability + self.steps_weight * difference)


class LabelModel(NamedTuple):
    """The distribution of labels given scores; see ``fit_label_model``.

    Attributes
    ----------
    curves : tuple
        The calibration of the positive class, or of each class of a multiclass task.
    drawn_coefficients : list of ndarray, each of shape (draws, splines)
        Bootstrapped coefficients of each curve, with the same draws for all.
    effects : BlockEffects
        What the rows of a day have in common, on the logits.
    population_effects : BlockEffects
        What all rows of a window have in common that is not like the reference; none by default.
    """

    curves: tuple[_ClassCurve, ...]
    drawn_coefficients: list[np.ndarray]
    effects: BlockEffects
    population_effects: BlockEffects

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Return the calibrated probability, shape (rows,), or of each class, (rows, classes)."""
        logits = _compute_logits(scores)
        columns = []
        for index, curve in enumerate(self.curves):
            basis = curve.make_basis(logits[:, index])
            columns.append(curve.predict_logits(logits[:, index], basis))
        probabilities = _to_probabilities(np.column_stack(columns))
        return np.asarray(probabilities[:, 0] if scores.ndim == 1 else probabilities)

    def simulate(
        self,
        scores: np.ndarray,
        blocks: np.ndarray | None,
        rng: np.random.Generator,
    ) -> Iterator[np.ndarray]:
        """Iterate over simulated labels of all rows, one draw for each bootstrapped curve."""
        logits = _compute_logits(scores)
        bases = []
        fitted_logits = []
        for index, curve in enumerate(self.curves):
            bases.append(curve.make_basis(logits[:, index]))
            fitted_logits.append(curve.predict_logits(logits[:, index], bases[index]))
        block_codes, block_count = encode_blocks(blocks, len(scores))
        stretch = _compute_stretch(self.effects)
        for draw in range(len(self.drawn_coefficients[0])):
            columns = []
            for index, basis in enumerate(bases):
                change = self.drawn_coefficients[index][draw] - self.curves[index].coefficients
                columns.append(fitted_logits[index] + basis @ change)
            drawn_logits = np.column_stack(columns) * stretch
            drawn_logits += self.effects.draw(block_count, rng)[block_codes]
            drawn_logits += self.population_effects.draw(1, rng)
            yield _draw_labels(_to_probabilities(drawn_logits), rng)


def fit_label_model(
    scores: np.ndarray,
    labels: np.ndarray,
    design: SamplingDesign | None = None,
    draws: int = 500,
    seed: int = 0,
) -> LabelModel | None:
    """Fit how labels are distributed given the scores; None for one class.

    The probability of the positive class, or of each class against the rest, is that of a logistic
    regression on natural cubic splines of the score's logit. From 5,000 rows on it is a mean of
    this one and of an isotonic regression, with the weights that have the lowest log loss on days
    (or groups) that neither was fitted to: an isotonic regression follows steps, and also noise,
    which makes a model look better than it is. The probabilities of several classes are divided by
    their sum. Their uncertainty is that of the splines, bootstrapped: labels of the reference are
    simulated, with what the rows of a day have in common, and one Newton step leads to the
    coefficients that they give.

    Parameters
    ----------
    scores : ndarray, shape (rows,) or (rows, classes)
        Finite scores of the reference.
    labels : ndarray, shape (rows,)
        Their labels; those of a multiclass task are codes.
    design : SamplingDesign, optional
        The day or group, and the weight, of each row.
    draws, seed : int
        Number of bootstrapped curves, and the random seed.

    Notes
    -----
    Davison & Hinkley, "Bootstrap methods and their application" (1997), section 7.2: the parametric
    bootstrap of a regression. Zadrozny & Elkan, "Transforming classifier scores into accurate
    multiclass probability estimates", KDD (2002): isotonic regression of each class, normalized.
    Breiman, "Stacked regressions", Machine Learning 24 (1996): the weights of several regressions.
    """
    if len(labels) == 0 or labels.min() == labels.max():
        return None
    blocks, weights = design or SamplingDesign()
    row_weights = np.ones(len(labels)) if weights is None else weights / weights.mean()
    logits = _compute_logits(scores)
    targets = _encode_targets(labels, scores)
    curves = []
    for index in range(logits.shape[1]):
        curves.append(_fit_curve(logits[:, index], targets[:, index], row_weights, blocks))
    no_effects = make_no_effects(len(curves))
    model = LabelModel(
        tuple(curves),
        [],
        no_effects,
        no_effects,
    )
    effects = estimate_label_effects(
        model,
        scores,
        labels,
        blocks,
    )
    model = model._replace(effects=effects)
    rows = SamplingDesign(blocks, row_weights)
    drawn = _bootstrap_coefficients(
        model,
        scores,
        rows,
        draws,
        seed,
    )
    return model._replace(drawn_coefficients=drawn)


def estimate_label_effects(
    model: LabelModel,
    scores: np.ndarray,
    labels: np.ndarray,
    blocks: np.ndarray | None,
) -> BlockEffects:
    """Estimate what the labels of a block have in common, on the logits, beyond their scores."""
    targets = _encode_targets(labels, scores)
    probabilities = model.predict(scores).reshape(len(labels), -1)
    noise = -probabilities.T @ probabilities
    noise[np.diag_indices(len(model.curves))] += probabilities.sum(axis=0)
    return estimate_block_effects(
        targets - probabilities,
        probabilities * (1 - probabilities),
        noise,
        blocks,
    )


def _bootstrap_coefficients(
    model: LabelModel,
    scores: np.ndarray,
    design: SamplingDesign,
    draws: int,
    seed: int,
) -> list[np.ndarray]:
    """Draw the coefficients of all curves; the draws of different curves belong together."""
    rng = np.random.default_rng(seed)
    logits = _compute_logits(scores)
    probabilities = model.predict(scores).reshape(len(scores), -1)
    effects = model.effects
    curves = model.curves
    weighted_bases = []
    for index, curve in enumerate(curves):
        basis = curve.make_basis(logits[:, index])
        if design.weights is not None:
            basis = basis * design.weights[:, None]
        weighted_bases.append(basis)
    block_codes, block_count = encode_blocks(design.blocks, len(logits))
    stretch = _compute_stretch(effects)
    fitted_logits = _to_logits(probabilities) * stretch
    drawn = [np.empty((draws, len(curve.coefficients))) for curve in curves]
    for draw in range(draws):
        drawn_logits = fitted_logits + effects.draw(block_count, rng)[block_codes]
        labels = _draw_labels(_to_probabilities(drawn_logits), rng)
        residuals = _encode_targets(labels, probabilities) - probabilities
        for index, curve in enumerate(curves):
            gradient = weighted_bases[index].T @ residuals[:, index]
            drawn[index][draw] = curve.coefficients + curve.inverse_hessian @ gradient
    return drawn


def _fit_curve(
    logits: np.ndarray,
    target: np.ndarray,
    row_weights: np.ndarray,
    blocks: np.ndarray | None,
) -> _ClassCurve:
    """Fit the calibration of one class: a spline, and of a large reference steps as well."""
    curve = _fit_spline(logits, target, row_weights)
    if compute_effective_rows(row_weights) < _MIN_ISOTONIC_ROWS:  # too few to tell steps from noise
        return curve
    steps = _fit_steps(logits, target, row_weights)
    steps_weight = _choose_steps_weight(
        logits,
        target,
        row_weights,
        blocks,
    )
    return curve._replace(steps=steps, steps_weight=steps_weight)


def _choose_steps_weight(
    logits: np.ndarray,
    target: np.ndarray,
    row_weights: np.ndarray,
    blocks: np.ndarray | None,
) -> float:
    """Choose how much the steps count by the log loss on rows that were left out of the fits.

    Whole blocks are left out if there are enough of them. Where the rows of a block have similar
    scores, steps that were fitted to some of them predict the others too well.
    """
    block_codes, block_count = encode_blocks(blocks, len(logits))
    if block_count < MIN_BLOCKS:
        block_codes, block_count = encode_blocks(None, len(logits))
    fold_of_block = np.random.default_rng(0).permutation(block_count) % _STACKING_FOLDS
    fold_of_row = fold_of_block[block_codes]
    spline_probability = np.empty(len(logits))
    steps_probability = np.empty(len(logits))
    for fold in range(_STACKING_FOLDS):
        is_inside = fold_of_row == fold
        fitted = (logits[~is_inside], target[~is_inside], row_weights[~is_inside])
        curve = _fit_spline(*fitted)
        steps = _fit_steps(*fitted)
        inside_logits = logits[is_inside]
        predicted_logits = curve.predict_logits(inside_logits, curve.make_basis(inside_logits))
        spline_probability[is_inside] = _to_probabilities(predicted_logits[:, None])[:, 0]
        steps_probability[is_inside] = steps.predict(inside_logits)
    candidates = np.linspace(0, 1, _STACKING_WEIGHTS)
    losses = []
    for weight in candidates:
        mixed = spline_probability + weight * (steps_probability - spline_probability)
        mixed_logits = _to_logits(mixed)
        row_losses = np.logaddexp(0, mixed_logits) - target * mixed_logits
        losses.append(float((row_weights * row_losses).sum()))
    return float(candidates[np.argmin(losses)])


def _fit_spline(
    logits: np.ndarray,
    target: np.ndarray,
    row_weights: np.ndarray,
) -> _ClassCurve:
    """Fit the spline that is added to the logits, by penalized maximum likelihood."""
    is_inside = np.abs(logits) < _LARGEST_LOGIT
    limits = (-1.0, 1.0)
    if is_inside.any():
        limits = (float(logits[is_inside].min()) - 1, float(logits[is_inside].max()) + 1)
    logits = np.clip(logits, *limits)
    knots = choose_spline_knots(logits, _KNOT_QUANTILES)
    basis = make_spline_basis(logits, knots)
    scales = np.sqrt((basis**2).mean(axis=0))
    scales[scales == 0] = 1.0
    basis = basis / scales
    penalty = np.full(basis.shape[1], _PENALTY)
    penalty[0] = 1e-6 * len(target)  # the constant is hardly shrunk
    coefficients = np.zeros(basis.shape[1])
    inverse_hessian = np.diag(1 / penalty)

    def compute_loss(candidate: np.ndarray) -> float:
        candidate_logits = logits + basis @ candidate
        losses = np.logaddexp(0, candidate_logits) - target * candidate_logits
        return float((row_weights * losses).sum() + (penalty * candidate**2).sum() / 2)

    loss = compute_loss(coefficients)
    for _ in range(_MAX_NEWTON_STEPS):
        probability = _to_probabilities((logits + basis @ coefficients)[:, None])[:, 0]
        gradient = basis.T @ (row_weights * (target - probability)) - penalty * coefficients
        curvature = row_weights * probability * (1 - probability)
        hessian = (basis * curvature[:, None]).T @ basis + np.diag(penalty)
        inverse_hessian = np.linalg.inv(hessian)
        step = inverse_hessian @ gradient
        step_loss = compute_loss(coefficients + step)
        while step_loss > loss and np.abs(step).max() > _NEWTON_TOLERANCE:
            step = step / 2
            step_loss = compute_loss(coefficients + step)
        coefficients = coefficients + step
        loss = step_loss
        if np.abs(step).max() < _NEWTON_TOLERANCE:
            break
    return _ClassCurve(
        limits,
        knots,
        scales,
        coefficients,
        inverse_hessian,
    )


def _fit_steps(
    logits: np.ndarray,
    target: np.ndarray,
    row_weights: np.ndarray,
) -> IsotonicRegression:
    """Fit an isotonic regression, without probabilities of 0 and 1."""
    from sklearn.isotonic import IsotonicRegression

    margin = 0.5 / compute_effective_rows(row_weights)
    regression = IsotonicRegression(
        y_min=margin,
        y_max=1 - margin,
        out_of_bounds="clip",
    )
    return regression.fit(logits, target, row_weights)


def _compute_stretch(effects: BlockEffects) -> np.ndarray:
    """Compute the factor of the logits that leaves the mean probability as it is with effects."""
    return np.asarray(np.sqrt(1 + _ATTENUATION * effects.variances))


def _encode_targets(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Encode labels as one column, or as one of each class, with 1 for the true one."""
    if scores.ndim == 1 or scores.shape[1] == 1:
        return np.asarray(labels.astype(float)[:, None])
    classes = np.arange(scores.shape[1])
    return np.asarray((labels[:, None] == classes).astype(float))


def _compute_logits(scores: np.ndarray) -> np.ndarray:
    """Compute the logit of each score, shape (rows, 1) or (rows, classes)."""
    return _to_logits(scores.reshape(len(scores), -1))


def _to_logits(probabilities: np.ndarray) -> np.ndarray:
    clipped = np.clip(probabilities, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _to_probabilities(logits: np.ndarray) -> np.ndarray:
    """Convert logits to probabilities; those of several classes sum to 1."""
    probabilities = 1 / (1 + np.exp(-np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT)))
    if probabilities.shape[1] > 1:
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    return np.asarray(probabilities)


def _draw_labels(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a label for each row."""
    uniform = rng.random(len(probabilities))
    if probabilities.shape[1] == 1:
        return np.asarray((uniform < probabilities[:, 0]).astype(float))
    is_above = uniform[:, None] > probabilities.cumsum(axis=1)
    labels = is_above.sum(axis=1)
    return np.asarray(np.minimum(labels, probabilities.shape[1] - 1).astype(float))
