"""Measure what derivatives by signal yields cost beside the fits of a hypothesis test.

    python benchmarks/derivatives.py BkgOnly.json patchset.json
    python benchmarks/derivatives.py BkgOnly.json patchset.json --sample 16

Times are processor times of one thread, in ms a patch. The fits are those of a hypothesis test with
all their starts; sharpening brings them nearer to their minima, as derivatives need them.
"""

from __future__ import annotations

import time
from pathlib import Path

from common import describe, machine, markdown, parser, positive, read_pallet, use_one_thread, write

from palletfit.config import DerivativeSettings, FitSettings
from palletfit.engine.batch import SHARP
from palletfit.engine.derivatives import YieldDerivatives
from palletfit.engine.engine import BatchedEngine


def main() -> None:
    """Print the table."""
    options = parser(__doc__)
    options.add_argument("workspace", type=Path, help="background-only workspace")
    options.add_argument("patchset", type=Path, help="patchset of its signals")
    options.add_argument("--sample", type=positive, default=8, metavar="N", help="patches (8)")
    arguments = options.parse_args()
    use_one_thread()
    environment = machine()
    print(f"{describe(environment)}\n", flush=True)
    workspace, _, patchset = read_pallet(arguments)
    step = max(1, len(patchset.patches) // arguments.sample)
    patches = patchset.patches[::step][: arguments.sample]
    engine = BatchedEngine(workspace, FitSettings())
    seconds = {"fits": 0.0, "sharpening": 0.0, "derivatives": 0.0}
    bins = 0
    for batch, _ in engine.lower(patches, testable=True)[0]:
        tests = engine.batch_fits(batch)
        began = time.process_time()
        fits = tests.four_fits()
        seconds["fits"] += (now := time.process_time()) - began
        for kind in fits.values():
            tests.fitter.sharpen(kind, tests.rows, SHARP)
        seconds["sharpening"] += (after := time.process_time()) - now
        derivatives = YieldDerivatives(tests.likelihood, engine.settings, DerivativeSettings())
        derivatives.tests(fits, tests.rows)
        seconds["derivatives"] += time.process_time() - after
        bins += sum(len(target.sample.nominal) for target in derivatives.yields.targets[0])
    record = {name: 1e3 * value / len(patches) for name, value in seconds.items()}
    record["part of the fits"] = (record["sharpening"] + record["derivatives"]) / record["fits"]
    title = arguments.workspace.resolve().parent.name
    cells = [f"{value:.3g}" for value in record.values()]
    print(markdown(["likelihood", "patches", *record], [[title, str(len(patches)), *cells]]))
    write(arguments.output, {"machine": environment, "patches": len(patches), **record})


if __name__ == "__main__":
    main()
