"""Limits that a core must keep, from ``[[tool.hwgen.budgets]]`` of a pyproject.toml."""
import tomllib
from pathlib import Path

from ..devices import RESOURCES
from ..errors import HwgenError

__all__ = ["check", "matching", "read", "table"]

# What a budget is for: the reports in which all of these that it names are equal.
OF = ("network", "rules", "options", "trainable", "residual")


def read(path: Path = Path("pyproject.toml")) -> list[dict]:
    """The budgets of a project; none where there is no such file.

    Raises
    ------
    HwgenError
        For a file that cannot be parsed, or a limit that no report has a figure for.
    """
    if not Path(path).is_file():
        return []
    try:
        project = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise HwgenError(f"{path} is not TOML: {error}") from None
    budgets = project.get("tool", {}).get("hwgen", {}).get("budgets", [])
    for budget in budgets:
        for block, limits in budget.items():
            if block in OF:
                continue
            known = ("inference", "np", "es") if block == "cycles" else RESOURCES
            if not isinstance(limits, dict) or set(limits) - set(known):
                raise HwgenError(f"{path}: budget {block!r} of {budget.get('network')} must be a "
                                 f"table of {', '.join(known)}")
    return budgets


def matching(report: dict, budgets: list[dict]) -> list[dict]:
    """Budgets of this core."""
    return [budget for budget in budgets
            if all(report.get(key) == budget[key] for key in OF if key in budget)]


def check(report: dict, budgets: list[dict]) -> list[str]:
    """One line for each figure that is over its limit, naming block and figure.

    ``training`` limits what learning adds, ``learning`` and ``inference`` the whole cores,
    ``cycles`` the cycles a sample takes, and any other name what learning adds to that block.

    Raises
    ------
    HwgenError
        For a block that the core has not.
    """
    return [f"{report['network']}: {block} takes {value:,g} {_unit(block, figure)}, "
            f"{value - limit:,g} over its budget of {limit:,g}"
            for block, figure, value, limit in _figures(report, budgets) if value > limit]


def table(report: dict, budgets: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows: every figure that has a limit."""
    return (["block", "figure", "is", "budget", "left"],
            [[block, _unit(block, figure), f"{value:,g}", f"{limit:,g}", f"{limit - value:,g}"]
             for block, figure, value, limit in _figures(report, budgets)])


def _figures(report, budgets):
    for budget in matching(report, budgets):
        for block, limits in budget.items():
            if block not in OF:
                for figure, limit in limits.items():
                    yield block, figure, _value(report, block, figure), limit


def _unit(block, figure):
    return f"cycles ({figure})" if block == "cycles" else figure.upper()


def _value(report, block, figure):
    if block == "cycles":
        cycles = report["cycles_per_sample"]
        if figure not in cycles:
            raise HwgenError(f"budget cycles.{figure} of {report['network']}: the core has no rule "
                             f"{figure}; name it in the budget's rules")
        return cycles[figure] if figure == "inference" else cycles[figure]["learning"]
    if block in ("training", "learning", "inference"):
        return report[block]["total"][figure]
    if block not in report["learning"]["blocks"]:
        raise HwgenError(f"budget {block!r} of {report['network']}: there is no such block; there "
                         f"are {', '.join(report['learning']['blocks'])}")
    return report["training"]["blocks"].get(block, {figure: 0})[figure]
