"""The report's charts in notebooks."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from ..errors import UsageError
from ..questions import Questions
from . import losses, prices
from .charts import WIDE, Chart, chart_css, clean
from .figures import Figures


@dataclass(frozen=True)
class Plot:
    """A chart; `svg` is a drawing that stands on its own."""

    svg: str

    @classmethod
    def of(cls, chart: Chart, key: str, title: str) -> Plot:
        """A chart with its style inside."""
        drawing = chart.svg(f"gl-{key}", title, title)
        head, _, body = drawing.partition("</desc>")
        return cls(f"{head}</desc><style>{chart_css()}</style>{body}")

    def _repr_html_(self) -> str:
        return f'<div style="max-width:720px">{self.svg}</div>'

    def _repr_svg_(self) -> str:
        return self.svg


@dataclass(frozen=True)
class Plots:
    """Charts of a run."""

    run: Questions

    def loss(self) -> Plot:
        """How the losses lie, with EL, VaR and ES.

        Raises:
            UsageError: no path loses anything, or there are fewer than two.
        """
        return Plot.of(losses.density_chart(self._lossy(), WIDE), "loss", "Distribution of the loss")

    def exceedance(self) -> Plot:
        """Probability of losing more than an amount, with its 95 % band.

        Raises:
            UsageError: no path loses anything, or there are fewer than two.
        """
        return Plot.of(losses.exceedance_chart(self._lossy(), WIDE), "exceedance", "Probability of a larger loss")

    def prices(self, gpu: str | None = None) -> Plot:
        """The fan of prices of a generation; None: the one of most of the book's chips.

        Raises:
            UsageError: the book has no such generation.
        """
        figures = Figures.of(self.run)
        main = figures.main_generation
        names = figures.generations
        name = gpu if gpu is not None or main is None else names[main]
        if name not in names:
            raise UsageError(f"no generation {name!s:.40} in this market; it has {', '.join(names) or 'none'}")
        return Plot.of(prices.price_chart(figures, name, WIDE), "prices", f"Prices of {clean(name)}")

    def _lossy(self) -> Figures:
        figures = Figures.of(self.run)
        if not figures.losses[-1]:
            raise UsageError("no path of this run loses anything, so there is no loss to draw")
        return figures


def summary(run: Questions) -> str:
    """The headline's table and the exceedance curve as HTML; a run of one path is told in a line."""
    from .page import table_html

    if run.n_paths < 2:
        return str(Markup("<p>{}</p>").format(repr(run)))
    figures = Figures.of(run)
    found = losses.headline(figures)
    curve = Plots(run).exceedance()._repr_html_() if figures.losses[-1] else ""
    return f"<p><b>{Markup.escape(found.title)}</b></p>{table_html(found.tables[0])}{curve}"
