"""Small line charts as SVG texts: colors come from the page's style sheet, so that dark, light and print all work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TypeAlias

from langchain_dsplus._arrays import Floats

Numbers: TypeAlias = Sequence[float] | Floats

_TICKS = (1.0, 2.0, 2.5, 5.0, 10.0)


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers within [low, high], at most about `most`.

    Example:
        >>> nice_ticks(63.0, 92.0)
        [65.0, 70.0, 75.0, 80.0, 85.0, 90.0]
    """
    span = max(high - low, 1e-12)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * tick for tick in _TICKS if span / (power * tick) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 10) for place in range(first, last + 1)]


class Plot:
    """One chart.

    Args:
        name: Its id in the page.
        title: What it shows, in a few words, for who cannot see it.
        x: Least and largest value.
        y: Least and largest value.
        x_label: Under the axis.
        y_label: Above the axis.
        size: Width and height in pixels.
    """

    def __init__(
        self,
        name: str,
        title: str,
        *,
        x: tuple[float, float],
        y: tuple[float, float],
        x_label: str,
        y_label: str,
        size: tuple[int, int] = (640, 360),
    ) -> None:
        self.name = name
        self.title = title
        self.x, self.y = x, y
        self.width, self.height = size
        self.left, self.right, self.top, self.bottom = 52.0, 16.0, 26.0, 44.0
        self._back: list[str] = []
        self._body: list[str] = []
        self._front: list[str] = []
        self._frame(x_label, y_label)

    def px(self, value: float) -> float:
        """Horizontal place of a value."""
        share = (value - self.x[0]) / (self.x[1] - self.x[0])
        return self.left + share * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        """Vertical place of a value."""
        share = (value - self.y[0]) / (self.y[1] - self.y[0])
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def _frame(self, x_label: str, y_label: str) -> None:
        base, right = self.height - self.bottom, self.width - self.right
        for tick in nice_ticks(*self.y):
            y = self.py(tick)
            self._back.append(f'<line class="grid" x1="{self.left:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
            self._back.append(
                f'<text class="tick" x="{self.left - 8:g}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
            )
        for tick in nice_ticks(*self.x, most=10):
            x = self.px(tick)
            self._back.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{base:g}" y2="{base + 4:g}"/>')
            self._back.append(f'<text class="tick" x="{x:.1f}" y="{base + 18:g}" text-anchor="middle">{tick:g}</text>')
        self._back.append(f'<line class="axis" x1="{self.left:g}" x2="{right:g}" y1="{base:g}" y2="{base:g}"/>')
        middle = (self.left + right) / 2
        self._back.append(
            f'<text class="name" x="{middle:g}" y="{self.height - 8}" text-anchor="middle">{escape(x_label)}</text>'
        )
        self._back.append(f'<text class="name" x="{8}" y="14">{escape(y_label)}</text>')

    def _points(self, xs: Numbers, ys: Numbers) -> str:
        return " ".join(f"{self.px(float(x)):.1f},{self.py(float(y)):.1f}" for x, y in zip(xs, ys, strict=True))

    def line(self, xs: Numbers, ys: Numbers, kind: str) -> None:
        """Draw a line; `kind` is a class of the style sheet."""
        self._body.append(f'<polyline class="line {kind}" points="{self._points(xs, ys)}"/>')

    def band(self, xs: Numbers, low: Numbers, high: Numbers, kind: str) -> None:
        """Fill between two lines."""
        there, back = self._points(xs, high), self._points(list(xs)[::-1], list(low)[::-1])
        self._back.append(f'<polygon class="band {kind}" points="{there} {back}"/>')

    def shade(self, low: float, high: float, kind: str) -> None:
        """Fill the whole height between two x."""
        x, width = self.px(low), max(0.0, self.px(high) - self.px(low))
        height = self.height - self.top - self.bottom
        rect = f'<rect class="{kind}" x="{x:.1f}" y="{self.top:g}" width="{width:.1f}" height="{height:g}"/>'
        self._back.insert(0, rect)

    def dot(self, x: float, y: float, kind: str, radius: float = 5.0) -> None:
        """Draw a dot."""
        self._front.append(f'<circle class="dot {kind}" cx="{self.px(x):.1f}" cy="{self.py(y):.1f}" r="{radius:g}"/>')

    def upright(self, x: float, low: float, high: float, kind: str) -> None:
        """Draw a vertical line between two y, such as an interval."""
        at = self.px(x)
        self._body.append(
            f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{self.py(low):.1f}" y2="{self.py(high):.1f}"/>'
        )

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", shift: tuple[float, float] = (0, 0)
    ) -> None:
        """Write words at a place."""
        at = f'x="{self.px(x) + shift[0]:.1f}" y="{self.py(y) + shift[1]:.1f}"'
        self._front.append(f'<text class="note" {at} text-anchor="{anchor}">{escape(words)}</text>')

    def moving(self) -> None:
        """Add a dot and a vertical line that the page's script moves."""
        base = self.height - self.bottom
        self._front.append(f'<line class="now cross" data-cross x1="0" x2="0" y1="{self.top:g}" y2="{base:g}"/>')
        self._front.append('<circle class="dot now" data-dot cx="-99" cy="-99" r="6.5"/>')

    def svg(self) -> str:
        """Return the whole element. Its data attributes tell the script where a value lies."""
        frame = (self.left, self.width - self.right, self.height - self.bottom, self.top)
        data = " ".join(
            f'data-{key}="{value!r}"'
            for key, value in zip(
                ("x0", "x1", "y0", "y1", "left", "right", "bottom", "top"), (*self.x, *self.y, *frame), strict=True
            )
        )
        return (
            f'<svg id="{self.name}" class="chart" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(self.title)}" {data}>' + "".join([*self._back, *self._body, *self._front]) + "</svg>"
        )
