"""model.weights.h5: its digest, and a check that reading it reads nothing but arrays in the file itself.

HDF5 can do more than hold arrays: a link or a data set may point to another file, a data set may declare more than is
stored, and a filter may load a plug-in. Keras writes none of this, so a file that has any of it is refused before an
array is read. Keras refuses most of it too, but which depends on its release, and it accepts 4 GiB for each array.
"""

import hashlib
from pathlib import Path

import h5py

_NUMBERS = "biufV"  # kinds of NumPy dtypes; bfloat16 is V


class UnsafeWeights(Exception):
    """The file holds something that does not belong in a file of weights."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def check_contents(path: Path) -> None:
    """Reads the structure of the file, but no array. Raises UnsafeWeights if it holds anything but groups, and arrays of
    numbers that are stored in it as they are; h5py raises OSError and other errors if it is damaged."""
    size = path.stat().st_size
    with h5py.File(path, "r") as file:
        groups, seen = [file], {_address(file)}
        while groups:
            group = groups.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise UnsafeWeights("a link that may lead to another file")
                member = group[name]
                if isinstance(member, h5py.Dataset):
                    _check_array(member, size)
                elif not isinstance(member, h5py.Group):
                    raise UnsafeWeights("a type")
                elif (address := _address(member)) not in seen:  # a group may hold itself
                    seen.add(address)
                    groups.append(member)


def _check_array(array: h5py.Dataset, size: int) -> None:
    if array.external or array.is_virtual:
        raise UnsafeWeights("an array that is stored in another file")
    if array.dtype.kind not in _NUMBERS:
        raise UnsafeWeights("an array that holds no numbers")
    if array.id.get_create_plist().get_nfilters():
        raise UnsafeWeights("an array that is stored compressed")
    if array.nbytes != array.id.get_storage_size() or array.nbytes > size:
        raise UnsafeWeights("an array that is larger than what is stored of it")


def _address(group: h5py.Group) -> int:
    return int(h5py.h5o.get_info(group.id).addr)
