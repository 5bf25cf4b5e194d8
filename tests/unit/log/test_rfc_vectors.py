"""Others' published vectors: the worked example of RFC 9162 section 2.1.5, and certificate-transparency's eight leaves.

The eight leaves, their roots and their paths are the ones that every implementation of RFC 6962 is tried on (first
published with certificate-transparency, carried on by Trillian and transparency-dev/merkle). Indices count from 0.
"""

import pytest

from ledger.log import merkle
from ledger.log.merkle import ProofError, leaf_hash, node_hash

ENTRIES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"
)]  # fmt: skip
LEAVES = [leaf_hash(entry) for entry in ENTRIES]

ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}

INCLUSION = [
    (0, 1, []),
    (0, 8, [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]),
    (5, 8, [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (1, 5, [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]),
]  # fmt: skip

CONSISTENCY = [
    (1, 1, []),
    (1, 8, [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]),
    (6, 8, [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 5, [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]),
]  # fmt: skip


def raw(hashes: list[str]) -> list[bytes]:
    return [bytes.fromhex(value) for value in hashes]


def wrong_paths(path: list[bytes], root: bytes) -> list[list[bytes]]:
    """The changes that the vectors' own project tries on each path."""
    changed = [[*path[:i], merkle.EMPTY_ROOT, *path[i + 1 :]] for i in range(len(path))]
    changed += [[*path, b""], [*path, root], [b"", *path], [root, *path]]
    if path:
        changed += [path[:-1], [path[0], *path]]
    return changed


@pytest.mark.parametrize("size", ROOTS)
def test_each_published_root_is_the_root_of_its_leaves(size: int) -> None:
    assert merkle.root(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "hashes"), INCLUSION)
def test_each_published_inclusion_path_is_made_and_accepted(index: int, size: int, hashes: list[str]) -> None:
    path, root = raw(hashes), bytes.fromhex(ROOTS[size])
    assert merkle.inclusion_proof(merkle.reader_over(LEAVES[:size]), index, size) == path
    merkle.verify_inclusion(LEAVES[index], index, size, path, root)


@pytest.mark.parametrize(("index", "size", "hashes"), INCLUSION)
def test_no_change_to_a_published_inclusion_path_is_accepted(index: int, size: int, hashes: list[str]) -> None:
    path, root = raw(hashes), bytes.fromhex(ROOTS[size])
    tries = [(LEAVES[index], other, size, path, root) for other in (index - 1, index + 1, index ^ 2)]
    tries += [(LEAVES[index], index, other, path, root) for other in (size * 2, size // 2)]
    tries += [(b"WrongLeaf", index, size, path, root), (LEAVES[index], index, size, path, merkle.EMPTY_ROOT)]
    tries += [(LEAVES[index], index, size, wrong, root) for wrong in wrong_paths(path, root)]
    for attempt in tries:
        with pytest.raises(ProofError):
            merkle.verify_inclusion(*attempt)


@pytest.mark.parametrize(("old", "new", "hashes"), CONSISTENCY)
def test_each_published_consistency_path_is_made_and_accepted(old: int, new: int, hashes: list[str]) -> None:
    path = raw(hashes)
    assert merkle.consistency_proof(merkle.reader_over(LEAVES[:new]), old, new) == path
    merkle.verify_consistency(old, new, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]), path)


@pytest.mark.parametrize(("old", "new", "hashes"), [vector for vector in CONSISTENCY if vector[2]])
def test_no_change_to_a_published_consistency_path_is_accepted(old: int, new: int, hashes: list[str]) -> None:
    path, old_root, new_root = raw(hashes), bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new])
    # Every tree begins with the empty one, but only with that one's root: old - 1 may be 0.
    tries = [(other, new, old_root, new_root, path) for other in (old - 1, old + 1, old ^ 2)]
    tries += [(old, other, old_root, new_root, path) for other in (new * 2, new // 2)]
    tries += [(old, new, b"WrongRoot", new_root, path), (old, new, old_root, b"WrongRoot", path)]
    tries += [(old, new, new_root, old_root, path), (old, new, old_root, new_root, [])]
    tries += [(old, new, old_root, new_root, wrong) for wrong in wrong_paths(path, old_root)]
    for attempt in tries:
        with pytest.raises(ProofError):
            merkle.verify_consistency(*attempt)


def test_the_proofs_of_rfc_9162s_example_are_made_of_the_nodes_that_it_names() -> None:
    """Section 2.1.5: seven leaves d0 to d6, nodes a to l, and what each proof consists of."""
    a, b, c, d, e, f, j = LEAVES[:7]
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, l = node_hash(g, h), node_hash(i, j)  # noqa: E741 - the RFC's own letter
    read = merkle.reader_over(LEAVES[:7])
    assert merkle.root_at(read, 7) == node_hash(k, l)
    assert merkle.inclusion_proof(read, 0, 7) == [b, h, l]
    assert merkle.inclusion_proof(read, 3, 7) == [c, g, l]
    assert merkle.inclusion_proof(read, 4, 7) == [f, j, k]
    assert merkle.inclusion_proof(read, 6, 7) == [i, k]
    assert merkle.consistency_proof(read, 3, 7) == [c, d, g, l]
    assert merkle.consistency_proof(read, 4, 7) == [l]
    assert merkle.consistency_proof(read, 6, 7) == [i, j, k]
