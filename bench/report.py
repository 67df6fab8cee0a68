"""Rows of measurements, and the Markdown made from them."""

import statistics


class Report:
    """Collects (round, case, target, metric, value) and prints a table for each case."""

    def __init__(self):
        self.rows = []

    def add(self, round_, case, target, **metrics):
        for metric, value in metrics.items():
            if value is not None:
                self.rows.append((round_, case, target, metric, float(value)))

    def save(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join("\t".join(map(str, row)) + "\n" for row in self.rows))

    def markdown(self, base, rated):
        """One table a case. Metrics in `rated` also get a ratio to `base` of the same round."""
        return "\n".join(self._table(case, base, rated) for case in _order(row[1] for row in self.rows))

    def _table(self, case, base, rated):
        rows = [row for row in self.rows if row[1] == case]
        metrics = _order(row[3] for row in rows)
        ratios = [metric for metric in metrics if metric in rated]
        heads = ["target", *(f"{metric} ratio" for metric in ratios), *(m.replace("_", " ") for m in metrics)]
        lines = [f"### {case}", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        for target in _order(row[2] for row in rows):
            cells = [target, *(self._ratio(rows, target, base, metric) for metric in ratios)]
            cells += [_median(rows, target, metric) for metric in metrics]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"

    @staticmethod
    def _ratio(rows, target, base, metric):
        of = {(row[0], row[2]): row[4] for row in rows if row[3] == metric}
        rounds = sorted({row[0] for row in rows})
        quotients = [of[r, target] / of[r, base] for r in rounds if of.get((r, base)) and (r, target) in of]
        if not quotients:
            return "–"
        return f"{statistics.median(quotients):.2f} [{min(quotients):.2f}..{max(quotients):.2f}]"


def _order(names):
    return list(dict.fromkeys(names))


def _median(rows, target, metric):
    values = [row[4] for row in rows if row[2] == target and row[3] == metric]
    if not values:
        return "–"
    value = statistics.median(values)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
