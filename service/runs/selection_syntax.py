"""How requests write the order of runs (`-metric.loss`) and conditions on metrics (`metric.loss<0.3`)."""

import math
import re
from collections.abc import Sequence

from service.runs.selection import NEWEST_FIRST, OPERATORS, MetricFilter, Order
from service.shared.errors import BadInput, Fault

DEFAULT_ORDER = "-created_at"
METRIC = "metric."
SHOWN_CHARACTERS = 60
ORDER_PATTERN = r"^-?(created_at|metric[.][ -~]{1,192})$"
FILTER_PATTERN = r'^metric[.][ -~]{0,99}[ "-;?-~](<=|>=|!=|<|>|=)-?[0-9]{1,17}([.][0-9]{1,17})?(e-?[0-9]{1,2})?$'
"""For the OpenAPI document: errors name what is expected, and not a pattern."""
# The last operator counts: metrics are named after modalities, which may be called `a<b`. A name that ends with a
# character of an operator cannot be filtered, because `a<=1` would have two meanings.
_CONDITION = re.compile(r"metric\.(.*[^<>=!])(<=|>=|!=|<|>|=)([^<>=!]+)", re.DOTALL)


def order(text: str) -> Order:
    """The order that a `sort` asks for. Raises BadInput."""
    key = text.removeprefix("-")
    descending = key != text
    if key == "created_at":
        return NEWEST_FIRST if descending else Order(descending=False)
    name = key.removeprefix(METRIC)
    if name and name != key:
        return Order(name, descending)
    detail = (
        f"sort is {text[:SHOWN_CHARACTERS]!r}, expected created_at, or metric.NAME with the name of a metric; "
        "with - in front for the reverse order"
    )
    raise BadInput([Fault("?sort", "unknown_sort_key", detail)])


def metric_filters(texts: Sequence[str], place: str = "?filter") -> list[MetricFilter]:
    """The conditions of each `filter`. place: of the list in the request. Raises BadInput with every fault."""
    filters, faults = [], []
    for number, text in enumerate(texts):
        own, name = (place, "filter") if place.startswith("?") else (f"{place}/{number}", f"filter.{number}")
        match = _CONDITION.fullmatch(text)
        value = _number(match[3]) if match else None
        if match is None or value is None:
            detail = (
                f"{name} is {text[:SHOWN_CHARACTERS]!r}, expected metric.NAME, one of {' '.join(OPERATORS)}, and a "
                "finite number, such as metric.validation_loss<0.3"
            )
            faults.append(Fault(own, "bad_filter", detail))
        else:
            filters.append(MetricFilter(match[1].strip(), match[2], value, own))
    if faults:
        raise BadInput(faults)
    return filters


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
