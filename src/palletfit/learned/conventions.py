"""Conventions of a network: the meaning of its inputs and outputs.

They come from the metadata of the file where SModelS finds them, and from options. The former are
those of SModelS 3.2.1 (`smodels/statistics/nnInterface.py`, and `nnAdapter.py` and
`nnPreprocessing.py` of the library of learned likelihoods that it imports):

- Inputs are total yields, background plus signal, in the order of ``bkg_yields``, whose names are
  ``CHANNEL-BIN``. Regions that ``channels`` calls ``CR`` have the observed events instead of the
  background. ``remove_channels`` are no inputs.
- They are transformed as ``run_config`` says, and standardised with ``standardization``; in older
  files with ``standardization_mean`` and ``standardization_std``, whose last four numbers are those
  of the outputs.
- The first four outputs are the NLL at a signal strength of one minus that at zero, in the order
  expected, observed, and both on Asimov data. The NLLs at zero are ``nLL_exp_mu0`` and others.

Metadata are texts of an untrusted file. They are read as JSON, or as literals of Python, and never
evaluated.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import Field, model_validator

from palletfit.config import NLL_COLUMNS
from palletfit.config.base import Model, parse
from palletfit.core.arrays import FloatArray
from palletfit.core.text import did_you_mean, printable
from palletfit.errors import PalletError

#: Outputs of SModelS in their order, and the keys of the NLLs at zero.
_SMODELS_OUTPUTS = ("nll_exp_1", "nll_obs_1", "nllA_exp_1", "nllA_obs_1")
_SMODELS_ZEROS = {
    "nll_exp_0": "nLL_exp_mu0",
    "nll_obs_0": "nLL_obs_mu0",
    "nllA_exp_0": "nLLA_exp_mu0",
    "nllA_obs_0": "nLLA_obs_mu0",
}
#: Longest text of metadata that is read, in characters.
_LONGEST = 1 << 20
#: Set of inputs of SModelS that its networks take.
_FEATURES = "fvs_standardized"

Step = Literal["log", "exp", "sqrt", "inverse", "log_w_negatives", "standardization"]


class Scaling(Model):
    """Steps from a number to that of the network, in their order."""

    steps: list[Step] = Field(default_factory=list, max_length=20)
    """`standardization` subtracts `mean` and divides by `std`. `log_w_negatives` is
    `sign(x) log(1 + abs(x))`. A linear scale is a standardisation, too."""
    mean: list[float] = Field(default_factory=list)
    """For each number, or one for all."""
    std: list[float] = Field(default_factory=list)
    """For each number, or one for all. Where it is zero nothing is divided."""

    @model_validator(mode="after")
    def _numbers_for_steps(self) -> Scaling:
        if "standardization" in self.steps and not (self.mean and self.std):
            raise ValueError("standardization needs mean and std")
        return self

    def check_length(self, count: int, of: str, path: Path) -> None:
        """Refuse another number of means than there are numbers.

        Raises
        ------
        PalletError
            There are neither as many, nor one.
        """
        for name, values in (("mean", self.mean), ("std", self.std)):
            if "standardization" in self.steps and len(values) not in (1, count):
                raise PalletError(
                    f"The scaling of the {of} has {len(values)} numbers as `{name}`, and there are "
                    f"{count} {of}.",
                    remedy="Correct the metadata of the network, or `conventions`.",
                    file=path,
                )

    def scaled(self, values: FloatArray) -> FloatArray:
        """Scale rows, ``(N, n)``."""
        with np.errstate(all="ignore"):
            for step in self.steps:
                values = self._forward(step, values)
        return values

    def unscaled(self, values: FloatArray) -> FloatArray:
        """Take back the scaling of rows, ``(N, n)``."""
        with np.errstate(all="ignore"):
            for step in reversed(self.steps):
                values = self._back(step, values)
        return values

    def _forward(self, step: str, values: FloatArray) -> FloatArray:
        if step == "standardization":
            return np.asarray((values - np.array(self.mean)) / self._divisors)
        if step == "log_w_negatives":
            return np.asarray(np.sign(values) * np.log1p(np.abs(values)))
        functions = {"log": np.log, "exp": np.exp, "sqrt": np.sqrt, "inverse": np.reciprocal}
        return np.asarray(functions[step](values))

    def _back(self, step: str, values: FloatArray) -> FloatArray:
        if step == "standardization":
            return np.asarray(values * self._divisors + np.array(self.mean))
        if step == "log_w_negatives":
            return np.asarray(np.sign(values) * np.expm1(np.abs(values)))
        functions = {"log": np.exp, "exp": np.log, "sqrt": np.square, "inverse": np.reciprocal}
        return np.asarray(functions[step](values))

    @property
    def _divisors(self) -> FloatArray:
        divisors = np.array(self.std)
        return np.where(divisors == 0, 1.0, divisors)


class Conventions(Model):
    """Meaning of the inputs and outputs of a network."""

    inputs: list[str] | None = None
    """Bins in the order of the inputs: `CHANNEL[BIN]` or `CHANNEL-BIN`, with bins counted from
    zero; `CHANNEL` or a shell pattern for all bins of channels, in the order of the workspace."""
    yields: Literal["signal", "total"] | None = None
    """Events that an input holds: those of the signal, or of background and signal."""
    background: dict[str, float] = Field(default_factory=dict)
    """Background of total yields by input, or by channel for each of its bins; of others it is
    that of the workspace."""
    input_scaling: Scaling = Scaling()
    """Scaling of the inputs."""
    outputs: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Column of each NLL, by the names of the columns of `points`: `nll_obs_1` and others. Columns
    of all outputs are counted together, from zero."""
    differences: bool = False
    """Outputs at a signal strength of one are differences to the NLL at zero."""
    twice: bool = False
    """Outputs are 2 NLL."""
    output_scaling: Scaling = Scaling()
    """Scaling of the outputs, which is taken back; its numbers are in the order of the columns."""
    zeros: dict[str, float] = Field(default_factory=dict)
    """NLLs without signal that are no outputs, such as `nll_obs_0`."""
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Smallest and largest yields of the training, by input, or by channel for each of its bins,
    as the network takes them."""

    @model_validator(mode="after")
    def _known_names(self) -> Conventions:
        for name in (*self.outputs, *self.zeros):
            if name not in NLL_COLUMNS:
                raise ValueError(
                    f"there is no NLL {printable(name)!r}; {did_you_mean(name, NLL_COLUMNS)}they "
                    f"are {', '.join(NLL_COLUMNS)}"
                )
        if wrong := [name for name in self.zeros if not name.endswith("_0")]:
            raise ValueError(f"zeros has {wrong[0]!r}, which is not at a signal strength of zero")
        if wrong := [name for name, (low, high) in self.ranges.items() if not low < high]:
            raise ValueError(f"the range of {printable(wrong[0])!r} is empty")
        return self


def conventions_of(
    metadata: Mapping[str, str], path: Path, options: Mapping[str, Any] | None = None
) -> Conventions:
    """Read the conventions of a network; options take precedence over metadata.

    Parameters
    ----------
    metadata
        Texts of the file.
    path
        File, for errors.
    options
        Fields of :class:`Conventions`.

    Raises
    ------
    PalletError
        Metadata have the names of SModelS and another content.
    ConfigError
        An option is wrong.
    """
    options = dict(options or {})
    of_metadata = _of_smodels(metadata, path)
    # Checked alone first: their errors are the user's.
    parse(Conventions, options, file="the conventions of the network")
    if "outputs" in options:
        for key in ("differences", "output_scaling", "zeros"):
            of_metadata.pop(key, None)  # of other outputs
    return parse(Conventions, {**of_metadata, **options}, file=path)


# --------------------------------------------------------------------------- SModelS


def _of_smodels(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Translate metadata of SModelS into fields; nothing where there are none."""
    fields: dict[str, Any] = {}
    if "palletfit_ranges" in metadata:
        fields["ranges"] = _literal(metadata, "palletfit_ranges", path)
    if "bkg_yields" not in metadata:
        return fields
    background = _yields(metadata, "bkg_yields", path)
    observed = _yields(metadata, "obs_yields", path) if "obs_yields" in metadata else {}
    removed = _removed_regions(metadata, path)
    inputs = [name for name in background if not _is_of(name, removed)]
    control = _control_regions(metadata, path)
    fields |= {
        "inputs": inputs,
        "yields": "total",
        "background": {
            name: observed.get(name, background[name])
            if _is_of(name, control)
            else background[name]
            for name in inputs
        },
        "outputs": {name: column for column, name in enumerate(_SMODELS_OUTPUTS)},
        "differences": True,
        "zeros": {
            name: _number(metadata, key, path)
            for name, key in _SMODELS_ZEROS.items()
            if key in metadata
        },
    }
    return fields | _scalings(metadata, len(inputs), path)


def _scalings(metadata: Mapping[str, str], count: int, path: Path) -> dict[str, Any]:
    if "standardization" in metadata:
        numbers = _literal(metadata, "standardization", path)
        steps = _steps(metadata, path)
        try:
            # Each set of inputs has these numbers.
            features = [numbers[f"features_{kind}"][0][:count] for kind in ("mean", "std")]
            nlls = [numbers[f"nLLs_{kind}"][0] for kind in ("mean", "std")]
        except (KeyError, IndexError, TypeError):
            raise _wrong("standardization", path) from None
        return {
            "input_scaling": {"steps": steps[0], "mean": features[0], "std": features[1]},
            "output_scaling": {"steps": steps[1], "mean": nlls[0], "std": nlls[1]},
        }
    if "standardization_mean" in metadata:
        numbers = {
            kind: _literal(metadata, f"standardization_{kind}", path) for kind in ("mean", "std")
        }
        if not all(isinstance(values, list) for values in numbers.values()):
            raise _wrong("standardization_mean", path)
        size = len(_SMODELS_OUTPUTS)
        first = {kind: values[:-size] for kind, values in numbers.items()}
        last = {kind: values[-size:] for kind, values in numbers.items()}
        return {
            "input_scaling": {"steps": ["standardization"], **first},
            "output_scaling": {"steps": ["standardization"], **last},
        }
    return {}


def _steps(metadata: Mapping[str, str], path: Path) -> tuple[list[str], list[str]]:
    """Read the steps of inputs and outputs."""
    if "run_config" not in metadata:
        return ["standardization"], ["standardization"]
    try:
        data = yaml.safe_load(_text(metadata, "run_config", path))["data"]
        steps = list(data["trafos"][_FEATURES]), list(data["nLL_trafos"] or [])
    # ValueError: of a date or number that is none.
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        raise _wrong("run_config", path) from None
    # No message repeats other content: aliases of a short text can stand for any amount of it.
    if not all(isinstance(step, str) for each in steps for step in each):
        raise _wrong("run_config", path)
    return steps


def _control_regions(metadata: Mapping[str, str], path: Path) -> list[str]:
    if "channels" not in metadata:
        return []
    content = _literal(metadata, "channels", path)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise _wrong("channels", path)
    return [name for entry in content for name, kind in entry.items() if kind == "CR"]


def _removed_regions(metadata: Mapping[str, str], path: Path) -> list[str]:
    if "remove_channels" not in metadata:
        return []
    content = _literal(metadata, "remove_channels", path)
    if content is None:
        return []
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise _wrong("remove_channels", path)
    return content


def _is_of(name: str, regions: Sequence[str]) -> bool:
    """Say if an input is one of regions or of their bins."""
    return name in regions or name.rpartition("-")[0] in regions


def _yields(metadata: Mapping[str, str], key: str, path: Path) -> dict[str, float]:
    pairs = _literal(metadata, key, path)
    try:
        numbers = {str(name): float(value) for name, value in pairs}
    except (TypeError, ValueError, OverflowError):
        raise _wrong(key, path) from None
    if not all(map(math.isfinite, numbers.values())):
        raise _wrong(key, path)
    return numbers


def _number(metadata: Mapping[str, str], key: str, path: Path) -> float:
    value = _literal(metadata, key, path)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(key, path)
    try:
        number = float(value)
    except OverflowError:  # of a whole number with hundreds of digits
        raise _wrong(key, path) from None
    if not math.isfinite(number):
        raise _wrong(key, path)
    return number


def _literal(metadata: Mapping[str, str], key: str, path: Path) -> Any:
    """Read a value as JSON, or as a literal of Python."""
    if key not in metadata:
        raise _wrong(key, path)
    text = _text(metadata, key, path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise _wrong(key, path) from None


def _text(metadata: Mapping[str, str], key: str, path: Path) -> str:
    text = metadata[key]
    if len(text) > _LONGEST:
        raise _wrong(key, path)
    return text


def _wrong(key: str, path: Path) -> PalletError:
    return PalletError(
        f"The metadata {key!r} of the network are missing, or not what SModelS 3.2.1 reads.",
        remedy="Correct the file, or remove its metadata and say what it takes and gives with "
        "`conventions`.",
        file=path,
    )
