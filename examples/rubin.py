"""Multiple imputation: a linear regression, and Rubin's rules, which join the results from several completed tables."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Numbers = NDArray[np.float64]


class Fitted(NamedTuple):
    """Coefficients of a regression, their squared standard errors, and the degrees of freedom of their t intervals.

    estimate, variance: (K,). degrees: (K,), or one number for all.
    """

    estimate: Numbers
    variance: Numbers
    degrees: Numbers | float

    def interval(self, level: float) -> tuple[Numbers, Numbers]:
        """The interval of each coefficient: estimate -+ t standard errors, (K,) twice."""
        half = student.ppf((1 + level) / 2, self.degrees) * np.sqrt(self.variance)
        return self.estimate - half, self.estimate + half


class Pooled(NamedTuple):
    """Coefficients from m completed tables.

    fitted: what the tables together say. missing_information: (K,), the part of the variance that missing values cause
    (lambda in Barnard and Rubin, 1999).
    """

    fitted: Fitted
    missing_information: Numbers


def regression(outcome: Numbers, columns: Numbers) -> Fitted:
    """Least squares of (N,) on (N, K - 1) and a constant, whose coefficient is the first of K."""
    design = np.column_stack([np.ones(len(outcome)), columns])
    inverse = np.linalg.inv(design.T @ design)
    estimate = inverse @ design.T @ outcome
    degrees = len(outcome) - design.shape[1]
    residual = np.square(outcome - design @ estimate).sum() / degrees
    return Fitted(estimate, residual * np.diag(inverse), degrees)


def pool(tables: Sequence[Fitted]) -> Pooled:
    """Rubin's rules (Rubin, 1987, doi:10.1002/9780470316696, section 3.1) for m >= 2 completed tables.

    Q = mean of the estimates, U = mean of the variances, B = variance between the estimates, T = U + (1 + 1/m) B. The
    degrees of freedom are those of Barnard and Rubin (1999, doi:10.1093/biomet/86.4.948, section 2), which never exceed
    those of the complete table.
    """
    m, complete = len(tables), float(np.mean([table.degrees for table in tables]))
    estimates = np.stack([table.estimate for table in tables])
    within = np.mean([table.variance for table in tables], axis=0)
    between = (1 + 1 / m) * estimates.var(axis=0, ddof=1)
    total = within + between
    missing = between / total
    observed = (complete + 1) / (complete + 3) * complete * (1 - missing)
    # 1 / degrees: finite also where the estimates of all tables are equal
    degrees = 1 / (np.square(missing) / (m - 1) + 1 / observed)
    return Pooled(Fitted(estimates.mean(axis=0), total, degrees), missing)
