"""Time the diagnostics of one patch with palletfit and cabinetry, on one core.

    python benchmarks/diagnostics.py BkgOnly.json patchset.json --patch C1N2_Wh_hbb_1000_0
    python benchmarks/diagnostics.py BkgOnly.json patchset.json --backend jax --ranked 2

Times are CPU seconds, which other work on the machine changes less than wall time. Both start from
parsed JSON and give the best fit with uncertainties and correlations, yields before and after the
fit with uncertainties, the significance of a discovery, and impacts.

``palletfit``
    ``palletfit.products.diagnostics.compute.diagnose`` with everything, before and after the other:
    lowering, four fits, four impact fits for each parameter, each fit from several starts.
``cabinetry``
    ``model_and_data``, ``fit.fit``, ``prediction`` twice, ``fit.significance`` as in its
    documentation, and ``fit.ranking``: of ``--ranked`` parameters only, the leading ones. What the
    impacts of all would take is worked out from the time of one of these fits.
"""

from __future__ import annotations

import itertools
import logging
import time
import warnings
from typing import Any

import cabinetry
import numpy as np
import pyhf
from cabinetry import model_utils
from common import (
    add_pallet,
    describe,
    machine,
    markdown,
    parser,
    positive,
    read_pallet,
    use_one_thread,
    version,
    write,
)

from palletfit.config import FitSettings
from palletfit.engine.engine import BatchedEngine
from palletfit.pallet.patches import Patch, apply
from palletfit.products.diagnostics.compute import Diagnostics, diagnose


def ours(workspace: Any, patch: Patch) -> tuple[float, Diagnostics]:
    """Make the diagnostics as from a cold start, and measure their CPU time."""
    began = time.process_time()
    ((_, result),) = diagnose(BatchedEngine(workspace, FitSettings()), [patch])
    if not isinstance(result, Diagnostics):
        raise SystemExit(str(result))
    return time.process_time() - began, result


def theirs(workspace: Any, patch: Patch, ranked: list[str]) -> dict[str, float]:
    """Measure the CPU seconds of each part."""
    marks = [("", time.process_time())]

    def done(part: str) -> None:
        marks.append((part, time.process_time()))

    model, data = model_utils.model_and_data(apply(workspace, patch))
    done("model")
    fit = cabinetry.fit.fit(model, data)
    done("fit")
    model_utils.prediction(model)
    model_utils.prediction(model, fit_results=fit)
    done("yields")
    cabinetry.fit.significance(model, data)
    done("significance")
    chosen = np.isin(fit.labels, ranked)
    uncertainties = model_utils.prefit_uncertainties
    # cabinetry leaves out parameters without a width.
    model_utils.prefit_uncertainties = lambda model: uncertainties(model) * chosen
    fits = count(fit.uncertainty * chosen, uncertainties(model) * chosen)
    cabinetry.fit.ranking(
        model, data, fit_results=fit._replace(uncertainty=fit.uncertainty * chosen)
    )
    done("impacts")
    model_utils.prefit_uncertainties = uncertainties
    seconds = {part: now - before for (_, before), (part, now) in itertools.pairwise(marks)}
    poi = np.array(fit.labels) == model.config.poi_name
    all_fits = count(fit.uncertainty * ~poi, uncertainties(model) * ~poi)
    return {**seconds, "impact_fits": fits, "all_impact_fits": all_fits}


def count(*widths: Any) -> int:
    """Count the impact fits that widths ask for."""
    return int(sum(2 * np.count_nonzero(width) for width in widths))


def main() -> None:
    """Run both, and print the table."""
    use_one_thread()
    parse = parser(__doc__)
    add_pallet(parse)
    parse.add_argument("--patch", help="its name; by default the first one")
    parse.add_argument("--backend", default="numpy", choices=("numpy", "jax"), help="of cabinetry")
    parse.add_argument("--ranked", type=positive, default=2, metavar="N")
    arguments = parse.parse_args()
    workspace, _, patchset = read_pallet(arguments)
    named = [patch for patch in patchset.patches if patch.name == arguments.patch]
    patch = (named or patchset.patches)[0]
    if arguments.patch and not named:
        raise SystemExit(f"{arguments.patchset} has no patch {arguments.patch!r}.")
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    environment = machine() | {"cabinetry": version("cabinetry")}
    print(f"{describe(environment)}, cabinetry {environment['cabinetry']} on {arguments.backend}\n")
    first, result = ours(workspace, patch)
    leading = [impact.parameter for impact in result.impacts[: arguments.ranked]]
    pyhf.set_backend(arguments.backend)
    parts = theirs(workspace, patch, leading)
    last, _ = ours(workspace, patch)
    fits, all_fits = parts.pop("impact_fits"), parts.pop("all_impact_fits")
    scaled = parts["impacts"] * all_fits / max(fits, 1)
    together = sum(parts.values()) - parts["impacts"] + scaled
    mine = (first + last) / 2
    rows = [(f"cabinetry: {part}", f"{seconds:.2f}") for part, seconds in parts.items()]
    rows[-1] = (f"cabinetry: impacts, {fits} of {all_fits} fits", rows[-1][1])
    rows += [
        ("cabinetry: all impacts, by these", f"{scaled:.0f}"),
        ("cabinetry: together", f"{together:.0f}"),
        ("palletfit: together, first and last", f"{first:.2f} and {last:.2f}"),
        (
            "ratio, cabinetry without impacts, palletfit with them",
            f"{(together - scaled) / mine:.0f}",
        ),
        ("ratio", f"{together / mine:.0f}"),
    ]
    print(f"{patch.name}, {len(result.parameters)} parameters, {result.status}\n")
    print(markdown(("what", "CPU seconds"), rows))
    record = {"patch": patch.name, "palletfit": [first, last], "cabinetry": parts}
    write(arguments.output, {"machine": environment, **record, "fits": fits, "all_fits": all_fits})


if __name__ == "__main__":
    main()
