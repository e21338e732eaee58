"""What scikit-learn predicts of a missing group of columns: the first things that people try."""

import warnings
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 scikit-learn asks for it
from sklearn.impute import IterativeImputer
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

Array = NDArray[np.float64]
Predict = Callable[[Array, Array, Array], Array]
"""(inputs, targets, new inputs), all standardised, (N, columns) -> targets of the new rows."""
PENALTIES = np.logspace(-3, 4, 15)
NEIGHBOURS = 5
TREES = 100
# Columns in turns take too long with more.
MAX_CHAINED = 100


def ridge(known: Array, targets: Array, new: Array) -> Array:
    """The penalty is chosen by leaving rows out one by one."""
    found: Array = RidgeCV(PENALTIES).fit(known, targets).predict(new)
    return found


def neighbours(known: Array, targets: Array, new: Array) -> Array:
    """The mean of the five nearest rows."""
    found: Array = KNeighborsRegressor(NEIGHBOURS).fit(known, targets).predict(new)
    return found


def chained(known: Array, targets: Array, new: Array) -> Array:
    """Scikit-learn's IterativeImputer: a Bayesian ridge regression of each column on all others, in turns."""
    missing = np.full((len(new), targets.shape[1]), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        imputer = IterativeImputer(random_state=0, max_iter=20).fit(np.c_[known, targets])
    found: Array = imputer.transform(np.c_[new, missing])[:, known.shape[1] :]
    return found


def forest(known: Array, targets: Array, new: Array) -> Array:
    """MissForest (Stekhoven and Bühlmann, 2012): a random forest for each column.

    With complete training rows and one group missing its first iteration is its last: a column of the group is
    predicted from complete columns.
    """
    trees = {"n_estimators": TREES, "max_features": "sqrt", "random_state": 0, "n_jobs": 2}
    columns = [RandomForestRegressor(**trees).fit(known, column).predict(new) for column in targets.T]
    return np.stack(columns, axis=1)


EVERY: Mapping[str, Predict] = {
    "ridge": ridge,
    "5 neighbours": neighbours,
    "IterativeImputer": chained,
    "MissForest": forest,
}


def predict(way: Predict, known: Array, targets: Array, new: Array) -> Array:
    """A prediction in the units of the targets."""
    inputs, outputs = StandardScaler().fit(known), StandardScaler().fit(targets)
    found: Array = outputs.inverse_transform(
        way(inputs.transform(known), outputs.transform(targets), inputs.transform(new))
    )
    return found
