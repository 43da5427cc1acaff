"""Statistics that a few wild values do not upset: what `gis.bursts` rests on. Pure; arrays in, arrays out."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DAY = 24


def spread(values: Array) -> float:
    """Standard deviation by the median and the 90 % quantile of absolute deviations, whichever says more; or NaN.

    Deaf to a few steps, and yet wary of tails heavier than the normal ones.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan")
    away = np.abs(values - np.median(values))
    return float(max(1.4826 * np.median(away), np.quantile(away, 0.9) / 1.645))


def least_variance_weights(deviations: Array, shrinkage: float) -> Array:
    """Weights (24,) ≥ 0, sum 1, of the hours of a day by which a constant flow is seen with the least variance.

    `deviations`: (days, 24) of what each hour differed from its usual. A constant flow among them does not change the
    weights; single wild hours are clipped at four standard deviations.
    """
    scale = 1.4826 * np.median(np.abs(deviations - np.median(deviations, axis=0)), axis=0)
    scale = np.maximum(scale, 1e-9 + 0.05 * np.max(scale))
    clipped = np.clip(deviations, -4 * scale, 4 * scale)
    covariance = clipped.T @ clipped / len(clipped)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.diag(np.maximum(np.diag(covariance), scale**2))
    used = np.arange(DAY)
    while True:
        weights = np.linalg.solve(covariance[np.ix_(used, used)], np.ones(len(used)))
        if np.all(weights >= 0):
            break
        used = used[weights > 0]
    full = np.zeros(DAY)
    full[used] = weights / weights.sum()
    return full


def nanmean(rows: Array) -> Array:
    """The mean of each column without its NaN; NaN where there is no value, and no warning."""
    count = np.isfinite(rows).sum(axis=0)
    return np.where(count > 0, np.nansum(rows, axis=0) / np.maximum(count, 1), np.nan)


def nanmedian(rows: Array) -> Array:
    """The median of each column without its NaN; NaN where there is no value. Quicker than numpy's, and no warning."""
    ordered = np.sort(rows, axis=0)
    count = np.isfinite(rows).sum(axis=0)
    columns = np.arange(rows.shape[1])
    low, high = ordered[np.maximum(count - 1, 0) // 2, columns], ordered[np.minimum(count // 2, len(rows) - 1), columns]
    return np.where(count > 0, (low + high) / 2, np.nan)
