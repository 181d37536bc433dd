"""Posteriors in one NetCDF file or zarr store each: the DataTree, and beside it what makes it a Posterior again.

The groups are those of ``post.data``, so that ``xarray.open_datatree`` and ArviZ read the file without bayeslmm. The
design, the priors and the certificate are the bytes of a bayeslmm file (see `storage`) in one array of one more
group; nothing that is read can run code.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.errors import StorageError
from bayeslmm.storage import FilePath, check_source, check_target, pack, storable, unpack

if TYPE_CHECKING:
    from bayeslmm.results.posterior import Posterior

_GROUP = "bayeslmm"
_KINDS = (".nc", ".zarr")
# Fields that are made again, or stored as the tree itself.
_FIELDS = ("design", "priors", "method", "diagnostics", "exact")


def save_posterior(post: Posterior, path: FilePath, *, overwrite: bool = False) -> Path:
    """Write a posterior.

    Parameters
    ----------
    post : Posterior
    path : str or path
        Ends in ``.nc`` (NetCDF) or ``.zarr`` (a folder).
    overwrite : bool
        Whether an existing file may be replaced. The old one stays until the new one is complete.

    Raises
    ------
    StorageError
        Another extension, a path that cannot be written to, a row label or prior that cannot be kept, or a library
        that is missing.
    """
    target = Path(path)
    zarr = _kind(target) == ".zarr"
    if zarr and target.is_dir():
        _check_store(target, overwrite)
    else:
        check_target(target, overwrite)
    from bayeslmm.bayes.datatree import without_free_variables

    content = {name: getattr(post, name) for name in _FIELDS}
    content["design"] = storable(post.design)
    packed = pack("posterior", post.formula, content)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _write(_with_parts(without_free_variables(post.data, post.design, post.priors), packed), part, zarr)
        _replace(part, target)
    finally:
        _remove(part)
    return target


def load_posterior(path: FilePath) -> Posterior:
    """Read a posterior that ``post.save`` has written; nothing is sampled again.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    Posterior
        The same draws, bit by bit.

    Raises
    ------
    FileNotFoundError
    StorageError
        Another kind of file, a damaged one, or one of a version that is not known.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import bayeslmm as bl
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(200, random_seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     post.save(pathlib.Path(folder) / "dyestuff.nc")
    ...     again = load_posterior(pathlib.Path(folder) / "dyestuff.nc")
    >>> bool(again.table().equals(post.table()))
    True
    """
    from bayeslmm.bayes.datatree import restored
    from bayeslmm.results.posterior import Posterior

    source = Path(path)
    zarr = _kind(source) == ".zarr"
    check_source(source)
    tree = _read(source, zarr)
    if _GROUP not in tree.children or "packed" not in tree[_GROUP].data_vars:
        raise StorageError(
            f"{source} was not written by post.save (it has no group {_GROUP!r}). xarray.open_datatree reads it."
        )
    content = unpack(np.asarray(tree[_GROUP]["packed"]).tobytes(), source)
    missing = [name for name in _FIELDS if name not in content]
    if missing:
        raise StorageError(f"{source} lacks {', '.join(missing)}: it is no posterior. Save it again.")
    fields = {name: content[name] for name in _FIELDS}
    return Posterior(data=restored(tree.drop_nodes(_GROUP), fields["design"], fields["priors"]), **fields)


def _kind(path: Path) -> str:
    if path.suffix not in _KINDS:
        raise StorageError(
            f"{path} ends in {path.suffix!r}; a posterior is kept as NetCDF or zarr. Choose a name that ends in "
            f"{' or '.join(_KINDS)}."
        )
    return path.suffix


def _check_store(target: Path, overwrite: bool) -> None:
    if not (target / "zarr.json").exists() and not (target / ".zgroup").exists():
        raise StorageError(f"{target} is a folder and no zarr store, so it is not replaced. Choose another name.")
    if not overwrite:
        raise StorageError(f"{target} exists. Pass overwrite=True to replace it, or choose another name.")


def _with_parts(tree: Any, packed: bytes) -> Any:
    import xarray as xr

    out = tree.copy()
    out[_GROUP] = xr.DataTree(xr.Dataset({"packed": ("byte", np.frombuffer(packed, dtype=np.uint8))}))
    return out


def _write(tree: Any, part: Path, zarr: bool) -> None:
    try:
        if zarr:
            tree.to_zarr(part, mode="w", consolidated=False)
        else:
            tree.to_netcdf(part, engine="h5netcdf")
    except ImportError as error:
        raise StorageError(_missing(zarr)) from error


def _read(source: Path, zarr: bool) -> Any:
    import xarray as xr

    try:
        engine = {"engine": "zarr", "consolidated": False} if zarr else {"engine": "h5netcdf"}
        with xr.open_datatree(source, **engine) as tree:
            return tree.load()
    except ImportError as error:
        raise StorageError(_missing(zarr)) from error
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(
            f"{source} cannot be read as a posterior ({type(error).__name__}: {error}). It is another kind of file, or "
            "damaged: copy it again, or sample and save again."
        ) from error


def _missing(zarr: bool) -> str:
    name = "zarr" if zarr else "h5netcdf"
    return f"The library {name} is not installed, without which posteriors are not kept. Run pip install {name}."


def _replace(part: Path, target: Path) -> None:
    if not target.is_dir():
        os.replace(part, target)
        return
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    os.replace(target, old)
    os.replace(part, target)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
