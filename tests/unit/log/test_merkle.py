"""Trees, proofs and tiles, held against RFC 6962's own recursive definitions and against pymerkle."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from ledger.log import merkle
from ledger.log.merkle import ProofError, leaf_hash, node_hash

LEAVES = [leaf_hash(b"%d" % i) for i in range(700)]
sizes = st.one_of(st.integers(1, 40), st.integers(1, len(LEAVES)), st.sampled_from([255, 256, 257, 511, 512, 513]))

# ---- the recursive definitions of RFC 6962 sections 2.1, 2.1.1 and 2.1.2 --------------------------------------------


def k_of(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(d: Sequence[bytes]) -> bytes:
    if not d:
        return merkle.EMPTY_ROOT
    if len(d) == 1:
        return d[0]
    k = k_of(len(d))
    return node_hash(mth(d[:k]), mth(d[k:]))


def path_of(m: int, d: Sequence[bytes]) -> list[bytes]:
    if len(d) == 1:
        return []
    k = k_of(len(d))
    return [*path_of(m, d[:k]), mth(d[k:])] if m < k else [*path_of(m - k, d[k:]), mth(d[:k])]


def subproof(m: int, d: Sequence[bytes], whole: bool) -> list[bytes]:
    if m == len(d):
        return [] if whole else [mth(d)]
    k = k_of(len(d))
    if m <= k:
        return [*subproof(m, d[:k], whole), mth(d[k:])]
    return [*subproof(m - k, d[k:], False), mth(d[:k])]


def root_by_path(leaf: bytes, m: int, n: int, path: Sequence[bytes]) -> bytes | None:
    """The root that PATH's definition gives back; None when the path has another length than it defines."""
    if n == 1:
        return None if path else leaf
    if not path:
        return None
    k = k_of(n)
    below = root_by_path(leaf, m, k, path[:-1]) if m < k else root_by_path(leaf, m - k, n - k, path[:-1])
    if below is None:
        return None
    return node_hash(below, path[-1]) if m < k else node_hash(path[-1], below)


def inclusion_holds(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    try:
        merkle.verify_inclusion(leaf, index, size, proof, root)
    except ProofError:
        return False
    return True


def consistency_holds(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    try:
        merkle.verify_consistency(old, new, old_root, new_root, proof)
    except ProofError:
        return False
    return True


def changed(proof: list[bytes]) -> list[list[bytes]]:
    """Every proof that is near this one without being it: shorter, longer, in another order, with another hash."""
    stranger = leaf_hash(b"stranger")
    places = range(len(proof))
    near = [proof[:i] + proof[i + 1 :] for i in places]
    near += [[*proof[:i], value, *proof[i:]] for i in range(len(proof) + 1) for value in {stranger, *proof}]
    for i, j in itertools.combinations(places, 2):
        swapped = list(proof)
        swapped[i], swapped[j] = proof[j], proof[i]
        near.append(swapped)
    for value in (stranger, b""):
        near += [[*proof[:i], value, *proof[i + 1 :]] for i in places]
    near += [[*proof[:i], proof[i][:31], *proof[i + 1 :]] for i in places]
    near += [[*proof[:i], proof[i] + b"\0", *proof[i + 1 :]] for i in places]
    near += [list(reversed(proof)), proof * 2, [*proof, b""]]
    return [candidate for candidate in near if candidate != proof]


# ---- roots and proofs -----------------------------------------------------------------------------------------------


def test_the_roots_are_those_of_the_certificate_transparency_test_vectors() -> None:
    entries = [b"", b"\0", b"\x10", b"\x20\x21", b"01", b"@ABC", b"PQRSTUVW", bytes(range(0x60, 0x70))]
    expected = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    leaves = [leaf_hash(entry) for entry in entries]
    assert [merkle.root(leaves[: n + 1]).hex() for n in range(8)] == expected


def test_the_empty_tree_has_the_hash_of_nothing_as_its_root() -> None:
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(sizes)
def test_a_root_is_the_one_that_the_rfc_defines(size: int) -> None:
    assert merkle.root(LEAVES[:size]) == mth(LEAVES[:size])


@given(st.data())
def test_an_inclusion_proof_is_the_one_that_the_rfc_defines_and_verifies(data: st.DataObject) -> None:
    size = data.draw(sizes)
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(merkle.reader_over(LEAVES[:size]), index, size)
    assert proof == path_of(index, LEAVES[:size])
    merkle.verify_inclusion(LEAVES[index], index, size, proof, mth(LEAVES[:size]))


@given(st.data())
def test_a_consistency_proof_is_the_one_that_the_rfc_defines_and_verifies(data: st.DataObject) -> None:
    new = data.draw(sizes)
    old = data.draw(st.integers(1, new))
    proof = merkle.consistency_proof(merkle.reader_over(LEAVES[:new]), old, new)
    assert proof == subproof(old, LEAVES[:new], True)
    merkle.verify_consistency(old, new, mth(LEAVES[:old]), mth(LEAVES[:new]), proof)


def test_pymerkle_agrees_on_roots_and_proofs() -> None:
    tree = InmemoryTree(algorithm="sha256")
    for i in range(70):
        tree.append_entry(b"%d" % i)
    for size in range(1, 71):
        read = merkle.reader_over(LEAVES[:size])
        assert merkle.root(LEAVES[:size]) == tree.get_root(size)
        for index in range(size):
            theirs = tree.prove_inclusion(index + 1, size)
            assert merkle.inclusion_proof(read, index, size) == list(theirs.path[1:])
            merkle.verify_inclusion(theirs.path[0], index, size, theirs.path[1:], tree.get_root(size))
        for old in range(1, size):
            # Its consistency proofs are of its own form; what they go between is not.
            ours = merkle.consistency_proof(read, old, size)
            merkle.verify_consistency(old, size, tree.get_root(old), tree.get_root(size), ours)


def test_pymerkle_agrees_on_the_roots_of_all_sizes_to_300_and_on_their_proofs() -> None:
    tree = InmemoryTree(algorithm="sha256")
    for i in range(300):
        tree.append_entry(b"%d" % i)
    read = merkle.reader_over(LEAVES[:300])
    edge = merkle.RightEdge()
    for size in range(1, 301):
        edge.append(LEAVES[size - 1 : size])
        assert merkle.root_at(read, size) == edge.root() == tree.get_root(size)
        for index in {0, size // 3, size - 1}:
            assert merkle.inclusion_proof(read, index, size) == list(tree.prove_inclusion(index + 1, size).path[1:])


# A tree whose leaves are all alike has one hash for each height, so it may be as large as the format allows.
ALIKE = [leaf_hash(b"alike")]
for _ in range(63):
    ALIKE.append(node_hash(ALIKE[-1], ALIKE[-1]))


def alike_root(size: int) -> bytes:
    """MTH of RFC 6962 for a tree of `size` leaves that are all alike."""
    if size & (size - 1) == 0:
        return ALIKE[size.bit_length() - 1]
    k = 1 << (size.bit_length() - 1)
    return node_hash(alike_root(k), alike_root(size - k))


@given(st.data())
def test_proofs_hold_in_trees_as_large_as_the_format_allows(data: st.DataObject) -> None:
    size = data.draw(st.one_of(st.integers(1, 2**63 - 1), st.sampled_from([2**62, 2**62 + 1, 2**63 - 1])))
    index = data.draw(st.one_of(st.integers(0, size - 1), st.just(size - 1)))
    old = data.draw(st.one_of(st.integers(1, size), st.just(1 << (size.bit_length() - 1))))
    roots = alike_root(old), alike_root(size)
    proof = merkle.inclusion_proof(lambda height, _: ALIKE[height], index, size)
    assert len(proof) <= 63
    assert merkle.root_by_inclusion(ALIKE[0], index, size, proof) == roots[1]
    assert not inclusion_holds(ALIKE[0], index, size, [*proof, ALIKE[0]], roots[1])
    assert size == 1 or not inclusion_holds(ALIKE[0], index, size, proof[:-1], roots[1])
    consistency = merkle.consistency_proof(lambda height, _: ALIKE[height], old, size)
    assert consistency_holds(old, size, *roots, consistency)
    assert not consistency_holds(old, size, *roots, [*consistency, ALIKE[0]])
    if consistency:
        assert not consistency_holds(old, size, *roots, consistency[:-1])
        assert not consistency_holds(old, size, *roots, [bytes(32), *consistency[1:]])


# ---- checks that must fail ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 31, 33])
def test_no_other_proof_than_the_right_one_shows_inclusion(size: int) -> None:
    root = merkle.root(LEAVES[:size])
    for index in range(size):
        proof = merkle.inclusion_proof(merkle.reader_over(LEAVES[:size]), index, size)
        assert inclusion_holds(LEAVES[index], index, size, proof, root)
        assert not any(inclusion_holds(LEAVES[index], index, size, other, root) for other in changed(proof))
        assert not any(inclusion_holds(LEAVES[index], i, size, proof, root) for i in range(-1, size + 9) if i != index)
        assert not any(inclusion_holds(LEAVES[i], index, size, proof, root) for i in range(size) if i != index)
        assert not inclusion_holds(LEAVES[index], index, size, proof, merkle.root(LEAVES[: size + 1]))


@given(st.data())
def test_a_proof_is_accepted_for_exactly_the_sizes_whose_definition_leads_to_the_root(data: st.DataObject) -> None:
    # A path does not fix the size by itself (index 0 of 3 and of 4 look alike): the checkpoint does.
    size = data.draw(st.integers(1, 70))
    index = data.draw(st.integers(0, size - 1))
    claimed_size = data.draw(st.integers(0, 80))
    claimed_index = data.draw(st.one_of(st.just(index), st.integers(0, 80)))
    root = merkle.root(LEAVES[:size])
    proof = merkle.inclusion_proof(merkle.reader_over(LEAVES[:size]), index, size)
    possible = claimed_index < claimed_size
    expected = possible and root_by_path(LEAVES[index], claimed_index, claimed_size, proof) == root
    assert inclusion_holds(LEAVES[index], claimed_index, claimed_size, proof, root) is expected


@pytest.mark.parametrize("new", [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 33])
def test_no_other_proof_than_the_right_one_shows_consistency(new: int) -> None:
    roots = [merkle.root(LEAVES[:size]) for size in range(new + 2)]
    for old in range(1, new + 1):
        proof = merkle.consistency_proof(merkle.reader_over(LEAVES[:new]), old, new)
        assert consistency_holds(old, new, roots[old], roots[new], proof)
        assert not any(consistency_holds(old, new, roots[old], roots[new], other) for other in changed(proof))
        for other in range(1, new + 2):
            if other != old:
                assert not consistency_holds(old, new, roots[other], roots[new], proof)
                assert not consistency_holds(other, new, roots[other], roots[new], proof)
            if other != new:
                assert not consistency_holds(old, new, roots[old], roots[other], proof)


@pytest.mark.parametrize("wrong", [b"", LEAVES[0][:31], LEAVES[0] + b"\0", LEAVES[0] * 2])
def test_a_leaf_or_root_of_another_length_shows_nothing(wrong: bytes) -> None:
    root, proof = merkle.root(LEAVES[:5]), merkle.inclusion_proof(merkle.reader_over(LEAVES[:5]), 1, 5)
    assert not inclusion_holds(wrong, 1, 5, proof, root)
    assert not inclusion_holds(LEAVES[1], 1, 5, proof, wrong)
    assert not inclusion_holds(wrong, 0, 1, [], wrong)
    between = merkle.consistency_proof(merkle.reader_over(LEAVES[:5]), 4, 5)
    assert not consistency_holds(4, 5, wrong, root, between)
    assert not consistency_holds(4, 5, merkle.root(LEAVES[:4]), wrong, between)
    assert not consistency_holds(5, 5, wrong, wrong, [])
    assert not consistency_holds(0, 5, merkle.EMPTY_ROOT, wrong, [])


@given(st.data())
def test_roots_and_sizes_cannot_be_exchanged(data: st.DataObject) -> None:
    new = data.draw(st.integers(2, len(LEAVES)))
    old = data.draw(st.integers(1, new - 1))
    roots = mth(LEAVES[:old]), mth(LEAVES[:new])
    proof = merkle.consistency_proof(merkle.reader_over(LEAVES[:new]), old, new)
    assert consistency_holds(old, new, *roots, proof)
    assert not consistency_holds(old, new, *roots[::-1], proof)
    assert not consistency_holds(new, old, *roots, proof)
    assert not consistency_holds(old, new, roots[1], roots[1], proof)
    assert not consistency_holds(old, new, *roots, [])
    place = data.draw(st.integers(0, len(proof) - 1))
    for other in ([*proof[:place], *proof[place + 1 :]], [*proof[:place], LEAVES[0], *proof[place:]], proof * 2):
        assert not consistency_holds(old, new, *roots, other)


def test_a_rewritten_history_has_no_consistency_proof() -> None:
    rewritten = [leaf_hash(b"other"), *LEAVES[1:50]]
    proof = merkle.consistency_proof(merkle.reader_over(rewritten), 20, 50)
    assert not consistency_holds(20, 50, merkle.root(LEAVES[:20]), merkle.root(rewritten), proof)


def test_every_tree_begins_with_the_empty_one_and_only_with_that() -> None:
    root = merkle.root(LEAVES[:5])
    assert merkle.consistency_proof(merkle.reader_over(LEAVES[:5]), 0, 5) == []
    assert consistency_holds(0, 5, merkle.EMPTY_ROOT, root, [])
    assert consistency_holds(0, 0, merkle.EMPTY_ROOT, merkle.EMPTY_ROOT, [])
    assert not consistency_holds(0, 5, root, root, [])
    assert not consistency_holds(0, 0, merkle.EMPTY_ROOT, root, [])
    assert not consistency_holds(0, 5, merkle.EMPTY_ROOT, root, [root])


@pytest.mark.parametrize(("old", "new"), [(6, 5), (-1, 5), (1, 2**63)])
def test_sizes_out_of_order_or_range_are_refused(old: int, new: int) -> None:
    assert not consistency_holds(old, new, LEAVES[0], LEAVES[1], [LEAVES[2]])
    with pytest.raises(ProofError):
        merkle.consistency_proof(merkle.reader_over(LEAVES[:5]), old, new)


@pytest.mark.parametrize(("index", "size"), [(5, 5), (-1, 5), (0, 0), (2**63, 2**64)])
def test_an_index_outside_of_the_tree_is_refused(index: int, size: int) -> None:
    assert not inclusion_holds(LEAVES[0], index, size, [], LEAVES[0])
    with pytest.raises(ProofError) as refusal:
        merkle.inclusion_proof(merkle.reader_over(LEAVES[:5]), index, size)
    assert refusal.value.code == "proof_invalid"


def test_a_leaf_is_never_taken_for_a_node() -> None:
    # The reason for the two prefixes: an entry made of two hashes must not hash to their parent.
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != node_hash(LEAVES[0], LEAVES[1])


# ---- tiles ----------------------------------------------------------------------------------------------------------


MANY = [leaf_hash(b"%d" % i) for i in range(70_000)]


def tiles_of(leaves: Sequence[bytes]) -> tuple[merkle.RightEdge, dict[tuple[int, int], bytes]]:
    edge = merkle.RightEdge()
    tiles = {(tile.level, tile.index): tile.data for tile in edge.append(leaves)}
    for level, hashes in enumerate(edge.levels):
        if hashes:
            tiles[level, (edge.size >> 8 * level) // 256] = b"".join(hashes)
    return edge, tiles


def test_the_tiles_of_70_000_leaves_are_those_of_the_specifications_example() -> None:
    _, tiles = tiles_of(MANY)
    widths = {place: len(data) // 32 for place, data in tiles.items()}
    assert [widths[0, n] for n in range(274)] == [256] * 273 + [112]
    assert (widths[1, 0], widths[1, 1], widths[2, 0], len(widths)) == (256, 17, 1, 277)
    assert all(merkle.tile_width(*place, 70_000) == width for place, width in widths.items())
    assert merkle.tile_width(0, 274, 70_000) == merkle.tile_width(2, 1, 70_000) == merkle.tile_width(3, 0, 70_000) == 0


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 70_000])
def test_proofs_from_tiles_are_those_from_leaves_over_three_levels(size: int) -> None:
    leaves = MANY[:size]
    edge, tiles = tiles_of(leaves)
    from_leaves = merkle.reader_over(leaves)
    from_tiles = merkle.reader_of_tiles(lambda level, index: tiles[level, index])
    halves = {place: merkle.Tile.of(*place, tile).middle for place, tile in tiles.items() if len(tile) == 8192}
    with_middles = merkle.reader_of_tiles(lambda level, index: tiles[level, index] + halves.get((level, index), b""))
    assert edge.root() == merkle.root_at(from_leaves, size) == merkle.root_at(from_tiles, size)
    for index in (0, 1, 255, 256, 65_279, 65_280, size - 1):
        path = merkle.inclusion_proof(from_leaves, index, size)
        assert merkle.inclusion_proof(from_tiles, index, size) == path
        assert merkle.inclusion_proof(with_middles, index, size) == path
    for old in (1, 255, 256, 257, 65_280, size - 1):
        assert merkle.consistency_proof(from_tiles, old, size) == merkle.consistency_proof(from_leaves, old, size)


@given(st.lists(st.integers(0, 300), max_size=4))
def test_the_right_edge_does_not_depend_on_how_leaves_were_batched(batches: list[int]) -> None:
    leaves = [leaf_hash(b"%d" % i) for i in range(sum(batches))]
    edge = merkle.RightEdge()
    tiles = [tile for count in batches for tile in edge.append(leaves[edge.size : edge.size + count])]
    whole = merkle.RightEdge()
    assert whole.append(leaves) == tiles
    assert (edge.size, edge.root()) == (len(leaves), mth(leaves))


def test_a_copy_of_the_right_edge_is_left_alone_by_what_follows() -> None:
    edge = merkle.RightEdge()
    edge.append(LEAVES[:300])
    kept = edge.copy()
    edge.append(LEAVES[300:])
    assert (kept.size, kept.root()) == (300, mth(LEAVES[:300]))


def test_a_tile_too_narrow_for_the_tree_is_refused() -> None:
    read = merkle.reader_of_tiles(lambda level, index: b"".join(LEAVES[:9]))
    with pytest.raises(ProofError, match="too narrow"):
        merkle.inclusion_proof(read, 3, 10)


def test_tile_paths_are_written_as_the_specification_does() -> None:
    assert merkle.tile_path(0, 1_234_067) == "tile/0/x001/x234/067"
    assert merkle.tile_path(1, 0, 17) == "tile/1/000.p/17"
    assert merkle.tile_path(0, 273, 112) == "tile/0/273.p/112"
    assert merkle.tile_path(0, 1000) == "tile/0/x001/000"
    for level, index, width in [(64, 0, 256), (-1, 0, 256), (0, -1, 256), (0, 0, 0), (0, 0, 257)]:
        with pytest.raises(ProofError):
            merkle.tile_path(level, index, width)
