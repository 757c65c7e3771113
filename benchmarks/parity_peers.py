"""Find the minima that pyhf finds with its own optimizers: what another engine is compared with.

    python benchmarks/parity_peers.py BkgOnly.json patchset.json peers.jsonl
    python benchmarks/parity_peers.py BkgOnly.json patchset.json peers.jsonl "C1N2_Wh_hbb_7*"
    python benchmarks/parity_peers.py BkgOnly.json patchset.json peers.jsonl --optimizers scipy
    python benchmarks/parity_peers.py BkgOnly.json patchset.json peers.jsonl --every 8 --offset 4

Every patch gets four fits with each optimizer, by pyhf.infer.mle on the NumPy backend with pyhf's
own settings: ``background`` (mu = 0), ``free``, ``fixed`` (mu = 1), and ``asimov_fixed`` (mu = 1 on
the Asimov data of the lower background fit, the same for all optimizers). Where Minuit fails, it
is tried once more with strategy 0. Every point is evaluated alike, so that 2 NLL can be compared.

A patch that is finished is one line of JSON at the end of the output file:

``patch``, ``digest``, ``software``, ``parameter_count``, ``apply_seconds``, ``build_seconds``
    ``build_seconds`` is all that it takes to make the model, ``apply_seconds`` included.
``fits``
    By fit: ``mu`` (null if free); ``optimizers`` with ``twice_nll``, ``seconds``, ``success``,
    ``message`` and all ``attempts`` of each; and of the lower one ``lowest`` (its name),
    ``twice_nll`` and ``parameters`` by their names in pyhf. What no optimizer found is null.
``asimov``
    ``optimizer`` and ``parameters`` of the background fit that the Asimov data are made from.
``error``
    Instead of all fits, for a patch that makes no model.

Patches that are in the output file are not fitted again. Where a line lacks an optimizer that is
asked for, only that one is run, and a new line holds all: **the last line of a patch counts**.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyhf
import pyhf.exceptions

from palletfit.config import FitSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.reference.evidence import Likelihood
from palletfit.engine.reference.hypotests import build_model, software_versions
from palletfit.errors import PalletError
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.patches import Patch, apply, json_digest
from palletfit.pallet.patchset import parse_patchset

#: Settings that differ from pyhf's defaults, one entry an attempt: the next on failure only.
ATTEMPTS: dict[str, tuple[dict[str, Any], ...]] = {
    "scipy": ({},),
    "minuit": ({}, {"strategy": 0}),
}
#: Fits to the observed data: the value of mu, None where it is free.
OBSERVED: dict[str, float | None] = {"background": 0.0, "free": None, "fixed": 1.0}
ASIMOV = "asimov_fixed"
ASIMOV_MU = 1.0


def main() -> None:
    """Fit the patches that the output file lacks."""
    arguments = parse_arguments()
    pyhf.set_backend("numpy")
    # The records say what failed; pyhf's log would print the covariance matrix of each.
    logging.getLogger("pyhf").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    try:
        workspace = read_pallet_json(arguments.workspace)
        patchset = parse_patchset(read_pallet_json(arguments.patchset), arguments.patchset)
    except PalletError as error:
        raise SystemExit(str(error)) from None
    patches = patchset.select(arguments.patterns or ["*"])[arguments.offset :: arguments.every]
    if not patches:
        raise SystemExit(
            f"No patch of {arguments.patchset} is selected: correct the patterns, or choose a "
            "smaller --offset."
        )
    base = json_digest(workspace)
    records = read_records(arguments.output)
    started = time.perf_counter()
    with arguments.output.open("a", encoding="utf-8") as output:
        for count, patch in enumerate(patches, start=1):
            digest = json_digest([base, patch.digest])
            record = records.get(patch.name, {})
            if record.get("digest") != digest:
                record = {}  # of another workspace or patch
            if is_complete(record, arguments.optimizers):
                continue
            record = make_record(workspace, patch, digest, record, arguments.optimizers)
            output.write(json.dumps(record) + "\n")
            output.flush()
            records[patch.name] = record
            spent = time.perf_counter() - started
            print(f"{count}/{len(patches)} {spent:.0f} s {describe(record)}", flush=True)
    selected = [records[patch.name] for patch in patches]
    failed = sum("error" in record for record in selected)
    building = sum(record.get("build_seconds", 0.0) for record in selected)
    print(
        f"{len(selected)} patches in {arguments.output}, {failed} of them without a model; "
        f"{building:.1f} s for making the models"
    )


def parse_arguments() -> argparse.Namespace:
    """Read and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workspace", type=Path, help="background-only workspace")
    parser.add_argument("patchset", type=Path, help="patchset of its signals")
    parser.add_argument("output", type=Path, help="file of JSON lines, which is continued")
    parser.add_argument("patterns", nargs="*", help="shell patterns of patch names (default: all)")
    parser.add_argument(
        "--optimizers",
        default=",".join(ATTEMPTS),
        help="names with commas between them (default: %(default)s)",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth patch")
    parser.add_argument(
        "--offset", type=int, default=0, metavar="K", help="begin with the patch after the first K"
    )
    arguments = parser.parse_args()
    arguments.optimizers = tuple(dict.fromkeys(arguments.optimizers.split(",")))
    unknown = [name for name in arguments.optimizers if name not in ATTEMPTS]
    if unknown:
        parser.error(f"--optimizers: {unknown[0]!r} is none of {', '.join(ATTEMPTS)}")
    if arguments.every < 1 or arguments.offset < 0:
        parser.error("--every has to be 1 or more, --offset 0 or more")
    if not arguments.output.parent.is_dir():
        parser.error(f"the folder {arguments.output.parent} of the output does not exist: make it")
    return arguments


def read_records(path: Path) -> dict[str, dict[str, Any]]:
    """Read the last record of each patch, and cut off a line that a killed run left unfinished."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    finished = content.rfind(b"\n") + 1
    if finished < len(content):
        os.truncate(path, finished)
    records = {}
    for number, line in enumerate(content[:finished].splitlines(), start=1):
        try:
            record = json.loads(line)
            records[record["patch"]] = record
        except (ValueError, KeyError, TypeError):
            raise SystemExit(
                f"Line {number} of {path} is no record of a patch: remove it, or name another file."
            ) from None
    return records


def is_complete(record: Mapping[str, Any], optimizers: Sequence[str]) -> bool:
    """Return true if nothing is left to do for a patch."""
    if "error" in record:
        return True
    if "fits" not in record:
        return False
    return all(name in record["fits"]["background"]["optimizers"] for name in optimizers)


def make_record(
    workspace: Mapping[str, Any],
    patch: Patch,
    digest: str,
    earlier: Mapping[str, Any],
    optimizers: Sequence[str],
) -> dict[str, Any]:
    """Make all fits of a patch that an earlier record of it does not hold."""
    settings = FitSettings()
    head = {"patch": patch.name, "digest": digest, "software": software_versions(settings)}
    started = time.perf_counter()
    try:
        spec = apply(workspace, patch)
        applied = time.perf_counter()
        model, data = build_model(spec, settings)
    except PalletError as error:
        return {**head, "error": str(error)}
    built = time.perf_counter()
    before = earlier.get("fits", {})
    fits = {
        name: fit_with_all(Likelihood(model, data, mu), optimizers, before.get(name))
        for name, mu in OBSERVED.items()
    }
    background = fits["background"]
    asimov = {"optimizer": background["lowest"], "parameters": background["parameters"]}
    # Another point that generates the Asimov data makes earlier fits to them worthless.
    asimov_before = before.get(ASIMOV) if asimov == earlier.get("asimov") else None
    if asimov["parameters"] is not None:
        generating = np.array(list(asimov["parameters"].values()))
        likelihood = Likelihood(model, model.expected_data(generating), ASIMOV_MU)
        all_optimizers = tuple(dict.fromkeys((*background["optimizers"], *optimizers)))
        fits[ASIMOV] = fit_with_all(likelihood, all_optimizers, asimov_before)
    return {
        **head,
        "parameter_count": model.config.npars,
        "apply_seconds": applied - started,
        "build_seconds": built - started,
        "asimov": asimov,
        "fits": fits,
    }


def fit_with_all(
    likelihood: Likelihood, optimizers: Sequence[str], earlier: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Fit with each optimizer that an earlier record of the same fit lacks."""
    earlier = earlier or {"optimizers": {}, "lowest": None, "twice_nll": None, "parameters": None}
    results = dict(earlier["optimizers"])
    best = {key: earlier[key] for key in ("lowest", "twice_nll", "parameters")}
    for optimizer in optimizers:
        if optimizer in results:
            continue
        results[optimizer], point = fit(likelihood, optimizer)
        value = results[optimizer]["twice_nll"]
        if value is not None and (best["twice_nll"] is None or value < best["twice_nll"]):
            names = likelihood.model.config.par_names
            parameters = dict(zip(names, map(float, point), strict=True))
            best = {"lowest": optimizer, "twice_nll": value, "parameters": parameters}
    return {"mu": likelihood.mu, "optimizers": results, **best}


def fit(likelihood: Likelihood, optimizer: str) -> tuple[dict[str, Any], FloatArray]:
    """Fit with one optimizer, with other settings after a failure.

    A point that pyhf itself rejects is recorded as an attempt, but is no minimum that it found.
    """
    attempts = []
    for options in ATTEMPTS[optimizer]:
        attempt, point = fit_once(likelihood, optimizer, options)
        attempts.append(attempt)
        if attempt["success"]:
            break
    return {
        "twice_nll": attempt["twice_nll"] if attempt["success"] else None,
        "seconds": sum(attempt["seconds"] for attempt in attempts),
        "success": attempt["success"],
        "message": attempt["message"],
        "attempts": attempts,
    }, point


def fit_once(
    likelihood: Likelihood, optimizer: str, options: Mapping[str, Any]
) -> tuple[dict[str, Any], FloatArray]:
    """Fit with pyhf and one optimizer, and evaluate the point where it ends."""
    model, data, mu = likelihood.model, likelihood.data, likelihood.mu
    pyhf.set_backend("numpy", getattr(pyhf.optimize, f"{optimizer}_optimizer")(**options))
    mle = pyhf.infer.mle
    point, success = np.array([]), True
    started = time.perf_counter()
    try:
        if mu is None:
            point, result = mle.fit(data, model, return_result_obj=True)
        else:
            point, result = mle.fixed_poi_fit(mu, data, model, return_result_obj=True)
        message = str(result.message)
    except pyhf.exceptions.FailedMinimization as error:
        success, message = False, str(error)
        point = np.array(error.result.x)
    except (ArithmeticError, RuntimeError, ValueError) as error:
        success, message = False, f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - started
    value = likelihood.twice_nll(point) if point.size else math.inf
    attempt = {
        "options": dict(options),
        "twice_nll": value if math.isfinite(value) else None,
        "seconds": seconds,
        "success": success,
        "message": message,
    }
    return attempt, point


def describe(record: Mapping[str, Any]) -> str:
    """Write one line about the fits of a patch."""
    if "error" in record:
        return f"{record['patch']}: {record['error']}"
    parts = []
    for name, entry in record["fits"].items():
        seconds = sum(end["seconds"] for end in entry["optimizers"].values())
        failed = [key for key, end in entry["optimizers"].items() if not end["success"]]
        failure = f", {' and '.join(failed)} failed" if failed else ""
        parts.append(f"{name} {seconds:.1f} s ({entry['lowest']}{failure})")
    return f"{record['patch']}: {', '.join(parts)}"


if __name__ == "__main__":
    main()
