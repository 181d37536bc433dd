"""An installation that cannot be written to, without a home and without a cache: fits, samples, saves, draws."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.home import provide
from bayeslmm.likelihood import kernels

ROOT = Path(__file__).parents[2]
CROSSED = "y ~ x + (1 | g) + (1 | h)"
SMALL = "Yield ~ 1 + (1 | Batch)"
START = """
import os, pwd, sys
from pathlib import Path
site = Path(sys.argv[1])
try:
    (site / "bayeslmm" / "probe").touch()
except PermissionError:
    pass
else:
    raise AssertionError("the installation can be written to")
def nobody(*_):
    raise KeyError("no such user")
if "HOME" not in os.environ:
    pwd.getpwuid = nobody
"""
WORK = """
import json, tempfile
import numpy as np, pandas as pd
import bayeslmm as bl
assert Path(bl.__file__).is_relative_to(site), bl.__file__
fit = bl.Model("y ~ x + (1 | g) + (1 | h)", pd.read_csv("crossed.csv")).fit()
model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
post = model.sample(400, random_seed=1)
fit.save("fit")
for name in ("p.nc", "p.zarr"):
    post.save(name)
    assert bl.load(name).table().equals(post.table())
"""
DRAW = """
bl.plot_variance(bl.compare(model.fit(), post))[0].figure.savefig("figure.png")
"""
REPORT = """
print(json.dumps({"criterion": fit.criterion, "estimates": fit.estimates().tolist(), "sigma": post.sigma}))
"""
PYMC = """
import bayeslmm as bl
model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).to_pymc()
import pytensor
sigma = pytensor.tensor.dscalar()
print(pytensor.function([sigma], 2 * sigma)(1.5), pytensor.config.compiledir)
"""


def crossed() -> pd.DataFrame:
    """Two factors of more levels than are held densely."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"g": rng.integers(0, 150, 600), "h": rng.integers(0, 140, 600), "x": rng.normal(size=600)})
    data["y"] = data["x"] + rng.normal(size=150)[data["g"]] + rng.normal(size=140)[data["h"]] + rng.normal(size=600)
    return data


def without_privileges() -> None:
    """For root too, rights of files count."""
    library = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):
        library.prctl(24, capability, 0, 0, 0)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory):
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "bayeslmm", site / "bayeslmm", ignore=shutil.ignore_patterns("__pycache__"))
    folders = [site, *(path for path in site.rglob("*") if path.is_dir())]
    for path in site.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    site.chmod(0o555)
    yield site
    for path in folders:
        path.chmod(0o755)


def run(site: Path, work: Path, home: str | None, *arguments: str) -> str:
    left_out = ("HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR", "PYTENSOR_FLAGS", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in left_out and not name.startswith("XDG")}
    (work / "tmp").mkdir(exist_ok=True)
    env = kept | {"PYTHONPATH": str(site), "TMPDIR": str(work / "tmp"), "MPLBACKEND": "Agg"}
    env |= {} if home is None else {"HOME": home}
    prepare: Callable[[], None] | None = without_privileges if os.geteuid() == 0 else None
    done = subprocess.run(
        [sys.executable, *arguments], env=env, cwd=work, capture_output=True, text=True, preexec_fn=prepare
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert not [name for name in os.listdir(work / "tmp") if name.startswith("bayeslmm")], "nothing is left"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, "/dev/null/home"], ids=["no home", "no writable home"])
def test_all_work_is_done(home: str | None, site: Path, tmp_path: Path) -> None:
    data = crossed()
    data.to_csv(tmp_path / "crossed.csv", index=False)
    out = run(site, tmp_path, home, "-c", START + WORK + (DRAW if home is None else "") + REPORT, str(site))
    there = json.loads(out)
    fit = bl.Model(CROSSED, pd.read_csv(tmp_path / "crossed.csv")).fit()
    # The same sums in another order at most.
    np.testing.assert_allclose(there["criterion"], fit.criterion, rtol=1e-11)
    np.testing.assert_allclose(there["estimates"], fit.estimates(), rtol=1e-6)
    model = bl.Model(SMALL, bl.load_dataset("Dyestuff"))
    assert there["sigma"] == pytest.approx(model.sample(400, random_seed=1).sigma, rel=1e-9)
    assert bl.load(tmp_path / "fit").criterion == pytest.approx(fit.criterion, rel=1e-11)
    assert home is not None or (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert not (tmp_path / "~").exists()


@pytest.mark.slow
def test_the_command_line_writes_its_report(site: Path, tmp_path: Path) -> None:
    arguments = ("compare", SMALL, "--data", "Dyestuff", "--draws", "400", "--out", "out")
    out = run(site, tmp_path, "/dev/null/home", "-m", "bayeslmm", *arguments)
    assert "Written to out" in out
    files = {path.name for path in (tmp_path / "out").iterdir()}
    figures = {
        f"Dyestuff_{name}.png" for name in ("boundary_sd_Batch_Intercept", "residuals", "shrinkage_Batch", "variance")
    }
    assert files == {"report.html", "comparison.json", *figures}


@pytest.mark.slow
def test_pytensor_compiles(site: Path, tmp_path: Path) -> None:
    value, folder = run(site, tmp_path, "/dev/null/home", "-c", START + PYMC, str(site)).split()
    assert float(value) == 3.0
    assert Path(folder).is_relative_to(tmp_path / "tmp")


def test_a_home_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYTENSOR_FLAGS", raising=False)
    before = dict(os.environ)
    provide()
    assert dict(os.environ) == before
    assert not os.listdir(tmp_path)
    # Who has said where to compile is not told otherwise.
    monkeypatch.setenv("HOME", "/dev/null/home")
    monkeypatch.setenv("PYTENSOR_FLAGS", "base_compiledir=/somewhere")
    before = dict(os.environ)
    provide()
    assert dict(os.environ) == before
    monkeypatch.setenv("PYTENSOR_FLAGS", "cxx=")
    provide()
    assert os.environ["PYTENSOR_FLAGS"].startswith("cxx=,base_compiledir=")


class Broken:
    """Kernels that cannot be used: no place for the cache, a damaged one, another LLVM."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Callable[..., None]:
        def loop(*_: object) -> None:
            raise self.error

        return loop


@pytest.mark.parametrize(
    "error",
    [RuntimeError("cannot cache function"), OSError(28, "No space left on device"), EOFError(), SystemError("LLVM")],
    ids=lambda error: type(error).__name__,
)
def test_kernels_that_fail_are_done_without(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = bl.Model(CROSSED, crossed()).fit()
    monkeypatch.setattr(kernels, "_compiled", lambda: Broken(error))
    again = bl.Model(CROSSED, crossed()).fit()
    np.testing.assert_allclose(again.criterion, fit.criterion, rtol=1e-11)
    np.testing.assert_allclose(again.estimates(), fit.estimates(), rtol=1e-6)
    np.testing.assert_allclose(again.ranef_variances()["g"], fit.ranef_variances()["g"], rtol=1e-6)


def test_numba_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "bayeslmm.likelihood._numba_kernels":
                raise RuntimeError("numba needs another version of LLVM")

    import bayeslmm.likelihood as package

    monkeypatch.delitem(sys.modules, "bayeslmm.likelihood._numba_kernels", raising=False)
    monkeypatch.delattr(package, "_numba_kernels", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    kernels._compiled.cache_clear()
    try:
        assert kernels._compiled() is None
        assert bl.Model(CROSSED, crossed()).fit().status.ok
    finally:
        kernels._compiled.cache_clear()
