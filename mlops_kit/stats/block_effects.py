"""Random effects of blocks: how much the rows of a day are high or low together.

A block's residuals sum to more than chance explains if its rows share something, such as the
weather of a day. The excess is the variance of a random effect, from which the blocks of another
sample are drawn.
"""

from __future__ import annotations

from typing import NamedTuple

from mlops_kit.core.lazy import np
from mlops_kit.stats.bootstrap import MIN_BLOCKS


class BlockEffects(NamedTuple):
    """The distribution of a block's effects.

    Attributes
    ----------
    covariance : ndarray, shape (effects, effects)
        Covariance of the effects of a block.
    block_count : int
        How many blocks it was estimated from; 0 if there is no effect.
    """

    covariance: np.ndarray
    block_count: int

    @property
    def variances(self) -> np.ndarray:
        """The variance of each effect."""
        return np.diag(self.covariance)

    def draw(self, block_count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the effects of new blocks, shape (blocks, effects).

        The covariance is known only as well as its blocks tell, so it is drawn first: the sum of
        squares of n blocks is chi-square distributed with n - 1 degrees of freedom.
        """
        effect_count = len(self.covariance)
        if not self.block_count:
            return np.zeros((block_count, effect_count))
        freedom = self.block_count - 1
        scale = np.sqrt(freedom / rng.chisquare(freedom))
        eigenvalues, eigenvectors = np.linalg.eigh(self.covariance)
        root = eigenvectors * np.sqrt(np.maximum(eigenvalues, 0))
        normal = rng.standard_normal((block_count, effect_count))
        return np.asarray(scale * normal @ root.T)


def make_no_effects(effect_count: int) -> BlockEffects:
    """Make the distribution of blocks that do not differ."""
    return BlockEffects(np.zeros((effect_count, effect_count)), 0)


def estimate_block_effects(
    residuals: np.ndarray,
    sensitivities: np.ndarray,
    noise_covariance: np.ndarray,
    blocks: np.ndarray | None,
) -> BlockEffects:
    """Estimate the covariance of block effects by the method of moments.

    Parameters
    ----------
    residuals : ndarray, shape (rows, effects)
        Observed minus expected values.
    sensitivities : ndarray, shape (rows, effects)
        By how much an effect of 1 changes the expected value of a row.
    noise_covariance : ndarray, shape (effects, effects)
        The covariance of the residuals without effects, summed over all rows.
    blocks : ndarray, shape (rows,), or None
        The block of each row; None, or fewer than five blocks: no effects.

    References
    ----------
    DerSimonian & Laird, "Meta-analysis in clinical trials", Controlled Clinical Trials 7 (1986):
    the moment estimate of the variance between studies.

    Examples
    --------
    >>> residuals = np.repeat([[1.0], [-1.0]] * 5, 4, axis=0)
    >>> blocks = np.repeat(np.arange(10), 4)
    >>> effects = estimate_block_effects(residuals, np.ones((40, 1)), np.zeros((1, 1)), blocks)
    >>> round(float(effects.variances[0]), 2)
    1.11
    """
    effect_count = residuals.shape[1]
    if blocks is None:
        return make_no_effects(effect_count)
    codes, block_count = encode_blocks(blocks, len(residuals))
    if block_count < MIN_BLOCKS:
        return make_no_effects(effect_count)
    sums = _sum_by_block(residuals, codes, block_count)
    totals = _sum_by_block(sensitivities, codes, block_count)
    # The mean residual is zero by construction, which costs one degree of freedom.
    squares = sums.T @ sums * (block_count / (block_count - 1))
    weights = totals.T @ totals
    excess = np.divide(
        squares - noise_covariance,
        weights,
        out=np.zeros_like(squares),
        where=weights > 0,
    )
    eigenvalues, eigenvectors = np.linalg.eigh(excess)
    covariance = (eigenvectors * np.maximum(eigenvalues, 0)) @ eigenvectors.T
    return BlockEffects(covariance, block_count)


def encode_blocks(blocks: np.ndarray | None, rows: int) -> tuple[np.ndarray, int]:
    """Return the number of each row's block, and how many there are; None: each row is one."""
    if blocks is None:
        return np.arange(rows), rows
    distinct, codes = np.unique(blocks, return_inverse=True)
    return codes, len(distinct)


def _sum_by_block(
    values: np.ndarray,
    codes: np.ndarray,
    block_count: int,
) -> np.ndarray:
    """Sum the rows of each block, shape (blocks, columns)."""
    columns = []
    for column in values.T:
        columns.append(np.bincount(codes, column, block_count))
    return np.column_stack(columns)
