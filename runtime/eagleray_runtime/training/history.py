"""Losses over the epochs in a bounded number of points."""

from collections.abc import Iterable

from eagleray_runtime.contract.reports import HistoryPoint

LIMIT = 50


class History:
    """Keeps every n-th epoch, n doubling whenever there are too many, and always the last one.

    Which epochs are kept depends on their number alone, so an attempt that resumes ends with the same history.
    """

    def __init__(self, points: Iterable[HistoryPoint] = ()) -> None:
        self._points: list[HistoryPoint] = []
        self._last: HistoryPoint | None = None
        self._stride = 1
        for point in points:
            self._last = point
            self._points.append(point)
        while self._points and len(self._points) > 1 and self._points[1].epoch - self._points[0].epoch > self._stride:
            self._stride *= 2
        self._points = [point for point in self._points if self._kept(point)]

    def add(self, point: HistoryPoint) -> None:
        """Take the losses of the next epoch (numbered from 1)."""
        self._last = point
        if not self._kept(point):
            return
        self._points.append(point)
        if len(self._points) >= LIMIT:
            self._stride *= 2
            self._points = [kept for kept in self._points if self._kept(kept)]

    @property
    def points(self) -> list[HistoryPoint]:
        """The kept points and the newest one, at most 50."""
        newest = self._last
        if newest is None or (self._points and self._points[-1].epoch == newest.epoch):
            return list(self._points)
        return [*self._points, newest]

    def _kept(self, point: HistoryPoint) -> bool:
        return (point.epoch - 1) % self._stride == 0
