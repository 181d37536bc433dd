"""Posteriors in one NetCDF file or zarr store each: the DataTree, and beside it what makes it a Posterior again.

The groups are those of ``post.data``, so that ``xarray.open_datatree`` and ArviZ read the file without bayeslmm. The
design, the priors and the certificate are the bytes of a bayeslmm file (see `storage`) in one array of one more
group; nothing that is read can run code.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bayeslmm.arguments import kind_of
from bayeslmm.bayes.collapsed import ChainDiagnostics, Diagnostics
from bayeslmm.bayes.moments import ExactMoments
from bayeslmm.bayes.priors import Priors
from bayeslmm.design.design import Design
from bayeslmm.errors import StorageError
from bayeslmm.files.writing import FilePath, as_path, destination, replacing, reserve
from bayeslmm.results.draws import Draws
from bayeslmm.storage.archive import reading, unreadable
from bayeslmm.storage.checksum import of_array
from bayeslmm.storage.conforming import conforms
from bayeslmm.storage.fits import check_source, pack, storable, unpack
from bayeslmm.storage.stored_tree import check_netcdf, check_zarr
from bayeslmm.storage.tree_content import check_draws, check_sums, tree_sums
from bayeslmm.types import AnyArray

_GROUP = "bayeslmm"
# Name of the checksums beside the fields; version 1 of the format had none.
_SUMS, _SEAL = "sums", "checksum"
_KINDS = (".nc", ".zarr")
# One of these files is in every zarr store, of format 3 or 2.
_SIGNS = ("zarr.json", ".zgroup")
# What a kind of file takes; h5netcdf does not bring h5py.
_LIBRARIES = {".nc": ("h5netcdf", "h5py"), ".zarr": ("zarr",)}
# Fields that are made again, or stored as the tree itself.
_FIELDS: dict[str, Any] = {
    "design": Design,
    "priors": Priors,
    "method": str,
    "diagnostics": Diagnostics | ChainDiagnostics | dict[str, float],
    "exact": ExactMoments | None,
}


def save_posterior(post: Draws, path: FilePath, *, overwrite: bool = False) -> Path:
    """Write a posterior.

    Parameters
    ----------
    post : Draws
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
    zarr = _kind(as_path(path)) == ".zarr"
    _check_libraries(zarr)
    target = destination(path, overwrite=overwrite, store=_SIGNS if zarr else ())
    from bayeslmm.bayes.datatree import without_free_variables

    content = {name: getattr(post, name) for name in _FIELDS}
    content["design"] = storable(post.design)
    tree = without_free_variables(post.data, post.design, post.priors)
    packed = pack("posterior", post.formula, {**content, _SUMS: tree_sums(tree)})
    with replacing(target) as part:
        _write(_with_parts(tree, packed), target.path, part, zarr)
    return target.path


def load_posterior[D: Draws](path: FilePath, kind: type[D]) -> D:
    """Read a posterior that ``post.save`` has written; nothing is sampled again.

    Parameters
    ----------
    path : str or path
    kind : type
        `Draws`, or what binds functions to them.

    Returns
    -------
    Draws
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
    ...     again = load_posterior(pathlib.Path(folder) / "dyestuff.nc", bl.Posterior)
    >>> bool(again.table().equals(post.table()))
    True
    """
    from bayeslmm.bayes.datatree import restored

    source = Path(path)
    zarr = _kind(source) == ".zarr"
    check_source(source)
    tree = _read(source, zarr)
    with reading(source):
        if _GROUP not in tree.children or "packed" not in tree[_GROUP].data_vars:
            raise StorageError(
                f"{source} was not written by post.save (it has no group {_GROUP!r}). xarray.open_datatree reads it."
            )
        content = unpack(_packed(tree[_GROUP].to_dataset()), source)
        missing = [name for name in _FIELDS if name not in content]
        if missing:
            raise StorageError(f"{source} lacks {', '.join(missing)}: it is no posterior. Save it again.")
        data = tree.drop_nodes(_GROUP)
        _check_parts(content)
        if _SUMS in content:
            if _SEAL not in tree[_GROUP].attrs:
                raise ValueError(f"the checksum of its parts is missing from the group {_GROUP}")
            check_sums(data, content[_SUMS])
        check_draws(content["design"], data)
        fields = {name: content[name] for name in _FIELDS}
        return kind(data=restored(data, fields["design"], fields["priors"]), **fields)


def _check_parts(content: Mapping[str, Any]) -> None:
    """Refuse parts of other types than a posterior has.

    Raises
    ------
    ValueError
    """
    for name, hint in _FIELDS.items():
        if not conforms(content[name], hint):
            raise ValueError(f"its {name} is {kind_of(content[name])}")
    if not conforms(content.get(_SUMS, {}), dict[str, str]):
        raise ValueError("its checksums are no texts")


def _kind(path: Path) -> str:
    if path.suffix not in _KINDS:
        raise StorageError(
            f"{path} ends in {path.suffix!r}; a posterior is kept as NetCDF or zarr. Choose a name that ends in "
            f"{' or '.join(_KINDS)}."
        )
    return path.suffix


def _with_parts(tree: Any, packed: bytes) -> Any:
    import xarray as xr

    out = tree.copy()
    data = np.frombuffer(packed, dtype=np.uint8)
    out[_GROUP] = xr.DataTree(xr.Dataset({"packed": ("byte", data)}, attrs={_SEAL: of_array(data)}))
    return out


def _packed(group: Any) -> bytes:
    """The bytes of the parts, if they are those that were written; version 1 had no checksum beside them.

    Raises
    ------
    ValueError
    """
    data: AnyArray = group["packed"].to_numpy()
    if data.dtype != np.uint8 or data.ndim != 1:
        raise ValueError(f"the bytes of its parts are an array of {data.dtype} of shape {data.shape}")
    if _SEAL in group.attrs and group.attrs[_SEAL] != of_array(data):
        raise ValueError("the checksum of its parts (design, priors, certificate) is not the one written with them")
    return data.tobytes()


def _size(tree: Any) -> int:
    """Bytes of a NetCDF file, generously: HDF5 ends the process rather than the call where a disk is full."""
    arrays = [variable for node in tree.subtree for variable in node.to_dataset(inherit=False).variables.values()]
    texts = sum(array.size for array in arrays if array.dtype.kind in "OUT")
    return int(sum(array.nbytes for array in arrays) + 64 * texts + 4096 * (len(arrays) + 10))


def _write(tree: Any, target: Path, part: Path, zarr: bool) -> None:
    try:
        if zarr:
            tree.to_zarr(part, mode="w", consolidated=False)
        else:
            reserve(part, _size(tree))
            tree.to_netcdf(part, engine="h5netcdf")
    except ImportError as error:
        raise StorageError(_unusable(zarr, error)) from error
    except OSError:
        raise
    except Exception as error:
        # HDF5 and zarr have errors of their own for what the system refuses.
        raise StorageError(
            f"{target} cannot be written ({type(error).__name__}: {error}). Look whether the disk is full, or choose "
            "another folder."
        ) from error


def _read(source: Path, zarr: bool) -> Any:
    import xarray as xr

    _check_libraries(zarr)
    try:
        (check_zarr if zarr else check_netcdf)(source)
        engine = {"engine": "zarr", "consolidated": False} if zarr else {"engine": "h5netcdf", "phony_dims": "sort"}
        with xr.open_datatree(source, **engine) as tree:
            return tree.load()
    except ImportError as error:
        raise StorageError(_unusable(zarr, error)) from error
    except PermissionError as error:
        raise unreadable(source, error) from error
    except Exception as error:
        # zarr, its codecs, HDF5 and xarray answer damage with exceptions of many kinds.
        raise StorageError(
            f"{source} cannot be read as a posterior ({type(error).__name__}: {error}). It is another kind of file, or "
            "damaged: copy it again, or sample and save again."
        ) from error


def _check_libraries(zarr: bool) -> None:
    kind = ".zarr" if zarr else ".nc"
    missing = [name for name in _LIBRARIES[kind] if find_spec(name) is None]
    if missing:
        raise StorageError(
            f"A posterior in a {kind} file needs {' and '.join(_LIBRARIES[kind])}, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed. Run pip install {' '.join(missing)}, or install "
            "bayeslmm[storage]."
        )


def _unusable(zarr: bool, error: ImportError) -> str:
    names = " or ".join(_LIBRARIES[".zarr" if zarr else ".nc"])
    return f"A library for posteriors in files ({names}) is installed and cannot be used: {error}. Install it again."
