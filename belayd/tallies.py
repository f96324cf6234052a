"""Counters and histograms that the loop writes and any thread renders.

Plain numbers under tuples of label values: nothing to lock, nothing global, no
`_created` series, and a board's numbers go when the board goes. The loop alone
writes; a `copy` is handed to whoever renders.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """A counter by label values; `name` ends in _total."""

    name: str
    documentation: str
    labels: Labels = ()
    values: dict[Labels, float] = field(default_factory=dict)

    def add(self, *labels: str, by: float = 1) -> None:
        """Count; 0 makes the series appear."""
        self.values[labels] = self.values.get(labels, 0) + by

    def forget(self, board: str) -> None:
        """Drop the series whose first label is this board."""
        for labels in [labels for labels in self.values if labels[0] == board]:
            del self.values[labels]

    def copy(self) -> Tally:
        """Return the numbers as they are now."""
        return Tally(self.name, self.documentation, self.labels, dict(self.values))

    def metric(self) -> Metric:
        """Render for prometheus_client."""
        family = CounterMetricFamily(self.name, self.documentation, labels=self.labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        return family


@dataclass(slots=True)
class Spread:
    """A histogram by label values; `bounds` are its buckets' upper bounds, ascending."""

    name: str
    documentation: str
    bounds: tuple[float, ...]
    labels: Labels = ()
    values: dict[Labels, list[float]] = field(default_factory=dict)

    def observe(self, value: float, *labels: str, times: int = 1) -> None:
        """Count a value into its bucket, so many times."""
        numbers = self.values.get(labels)
        if numbers is None:  # one count a bucket, one for what is above all bounds, and the sum
            numbers = [0.0] * (len(self.bounds) + 2)
            self.values[labels] = numbers
        numbers[bisect_left(self.bounds, value)] += times
        numbers[-1] += value * times

    def copy(self) -> Spread:
        """Return the numbers as they are now."""
        values = {labels: numbers.copy() for labels, numbers in self.values.items()}
        return Spread(self.name, self.documentation, self.bounds, self.labels, values)

    def metric(self) -> Metric:
        """Render for prometheus_client."""
        family = HistogramMetricFamily(self.name, self.documentation, labels=self.labels)
        for labels, numbers in self.values.items():
            family.add_metric(labels, list(self._cumulative(numbers)), sum_value=numbers[-1])
        return family

    def _cumulative(self, numbers: list[float]) -> Iterator[tuple[str, float]]:
        count = 0.0
        for bound, inside in zip((*self.bounds, float("inf")), numbers, strict=False):
            count += inside
            yield floatToGoString(bound), count  # type: ignore[no-untyped-call]
