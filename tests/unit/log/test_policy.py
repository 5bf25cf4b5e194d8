"""Trust policies: the specification's example means what its text says, and nothing else is taken for a policy."""

import hashlib
import itertools
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.log.cosignatures import Cosigner
from ledger.log.notes import NoteSigner
from ledger.log.policy import MAX_POLICY_BYTES, Policy, PolicyError, load_policy
from ledger.log.signing import SoftwareKey

LOG = NoteSigner("example.org/ledger/2026", SoftwareKey(Ed25519PrivateKey.from_private_bytes(b"L" * 32)))
WITNESSES = {  # the same in every process: their keys are in the names of tests
    name: Cosigner(f"{name.lower()}.example/w", SoftwareKey(Ed25519PrivateKey.from_private_bytes(name.encode() * 16)))
    for name in ("X1", "X2", "X3", "Y1", "Y2", "Y3")
}

# The example of C2SP tlog-policy, with keys put in.
EXAMPLE = f"""log {LOG.vkey}

witness X1 {WITNESSES["X1"].vkey}
witness X2 {WITNESSES["X2"].vkey}
witness X3 {WITNESSES["X3"].vkey}
group X-witnesses 2 X1 X2 X3

witness Y1 {WITNESSES["Y1"].vkey}
witness Y2 {WITNESSES["Y2"].vkey}
witness Y3 {WITNESSES["Y3"].vkey}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def refused(text: str) -> PolicyError:
    with pytest.raises(PolicyError) as refusal:
        Policy.parse(text)
    assert (refusal.value.code, refusal.value.status) == ("policy_malformed", 400)
    assert refusal.value.next_step
    return refusal.value


# ---- what a policy says ---------------------------------------------------------------------------------------------


def test_the_specifications_example_asks_for_two_of_x_and_one_of_y() -> None:
    policy = Policy.parse(EXAMPLE)
    assert policy.log_verifiers == (LOG.verifier,)
    assert policy.witness_verifiers == tuple(witness.verifier for witness in WITNESSES.values())
    for count in range(7):
        for names in itertools.combinations(WITNESSES, count):
            enough = sum(name[0] == "X" for name in names) >= 2 and any(name[0] == "Y" for name in names)
            assert policy.met_by(names) is enough
            assert policy.met_by(WITNESSES[name].verifier for name in names) is enough


def test_a_key_that_the_policy_does_not_name_counts_for_nothing() -> None:
    policy = Policy.parse(f"witness w {WITNESSES['X1'].vkey}\nquorum w\n")
    renamed = Cosigner("another.example", WITNESSES["X1"].key)
    as_log = NoteSigner(WITNESSES["X1"].name, WITNESSES["X1"].key)
    assert policy.met_by(["w"])
    assert not policy.met_by([renamed.verifier, as_log.verifier, Cosigner.generate("w").verifier, "W", "none", ""])
    assert not policy.met_by([])


def test_quorum_none_asks_for_nobody() -> None:
    policy = Policy.parse("quorum none\n")
    assert policy.met_by([])
    assert (policy.logs, policy.witnesses, policy.quorum) == ((), (), "none")


def test_logs_and_witnesses_have_their_urls_or_none() -> None:
    other = NoteSigner.generate("example.net/log")
    policy = Policy.parse(
        f"log {LOG.vkey} https://example.org/log/2026\nlog {other.vkey}\n"
        f"witness a {WITNESSES['X1'].vkey} https://w.example/\nwitness b {WITNESSES['X2'].vkey}\n"
        "quorum none\n"
    )
    assert [log.url for log in policy.logs] == ["https://example.org/log/2026", None]
    assert [(witness.name, witness.url) for witness in policy.witnesses] == [("a", "https://w.example/"), ("b", None)]


def test_spaces_tabs_blank_lines_and_comments_mean_nothing() -> None:
    policy = Policy.parse(
        f" \t# a comment: quorum none \n\n\t\n  witness\t \tw   {WITNESSES['X1'].vkey} \t\n#\nquorum w\n # more\n"
    )
    assert policy.met_by(["w"])
    assert not policy.met_by([])


def test_what_follows_the_quorum_still_counts() -> None:
    policy = Policy.parse(f"quorum none\nlog {LOG.vkey}\n")
    assert policy.log_verifiers == (LOG.verifier,)


def test_names_are_told_apart_byte_by_byte() -> None:
    kelvin = "\u212a"  # NFKC and lower case would make it a k
    policy = Policy.parse(
        f"witness K {WITNESSES['X1'].vkey}\nwitness {kelvin} {WITNESSES['X2'].vkey}\nquorum {kelvin}\n"
    )
    assert policy.met_by([kelvin])
    assert not policy.met_by(["K", "k"])
    # A space that only Unicode knows is part of a name.
    assert Policy.parse(f"witness a\u00a0b {WITNESSES['X1'].vkey}\nquorum a\u00a0b\n").met_by(["a\u00a0b"])


def test_a_policy_keeps_its_text_and_is_named_by_its_digest(tmp_path: Path) -> None:
    text = EXAMPLE + "# für Prüfer\n"
    path = tmp_path / "policy"
    path.write_bytes(text.encode())
    policy = load_policy(path)
    assert policy == Policy.parse(text)
    assert policy.text == text
    assert policy.sha256 == hashlib.sha256(path.read_bytes()).digest()


def test_thirty_two_logs_witnesses_and_groups_fit() -> None:
    lines = [
        f"log {NoteSigner.generate(f'log{i}.example/ledger/2026').vkey} https://log{i}.example/" for i in range(32)
    ]
    for i in range(32):
        lines.append(f"witness w{i} {Cosigner.generate(f'witness{i}.example/w').vkey} https://witness{i}.example/")
        lines.append(f"group g{i} any w{i}" + (f" g{i - 1}" if i else ""))
    policy = Policy.parse("\n".join([*lines, "quorum g31", ""]))
    assert (len(policy.logs), len(policy.witnesses), len(policy.groups)) == (32, 32, 32)
    assert policy.met_by(["w0"])


@given(st.data())
def test_any_tree_of_groups_is_met_as_its_definition_says(data: st.DataObject) -> None:
    witnesses = {f"w{i}": Cosigner.generate(f"w{i}.example") for i in range(data.draw(st.integers(1, 6)))}
    free = list(witnesses)
    tree: dict[str, tuple[int, list[str]]] = {}
    for i in range(data.draw(st.integers(0, 4))):
        members = data.draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
        tree[f"g{i}"] = (data.draw(st.integers(1, len(members))), members)
        free = [name for name in free if name not in members] + [f"g{i}"]
    quorum = data.draw(st.sampled_from([*witnesses, *tree]))
    text = "".join(f"witness {name} {key.vkey}\n" for name, key in witnesses.items())
    text += "".join(f"group {name} {k} {' '.join(members)}\n" for name, (k, members) in tree.items())
    policy = Policy.parse(f"{text}quorum {quorum}\n")
    signed = data.draw(st.sets(st.sampled_from(list(witnesses))))

    def witnessed(name: str) -> bool:
        if name in witnesses:
            return name in signed
        k, members = tree[name]
        return len([member for member in members if witnessed(member)]) >= k

    assert policy.met_by(signed) is witnessed(quorum)


# ---- refused one by one ---------------------------------------------------------------------------------------------

A = f"witness a {WITNESSES['X1'].vkey}\n"
B = f"witness b {WITNESSES['X2'].vkey}\n"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "newline"),
        ("\n", 0, "no quorum"),
        (A, 0, "no quorum"),
        ("quorum none", 1, "newline"),
        ("quorum none\r\n", 1, "control character"),
        ("quorum none\n# \x00\n", 2, "control character"),
        ("quorum none\n# \x7f\n", 2, "control character"),
        ("quorum none\n\udc80\n", 2, "not UTF-8"),
        ("quorum none\nquorum none\n", 2, "second quorum"),
        ("quorum\n", 1, "not a log"),
        ("quorum none none\n", 1, "not a log"),
        ("quorum a\n" + A, 1, "not defined above"),
        ("Quorum none\n", 1, "not a log"),
        ("policy 1\nquorum none\n", 1, "not a log"),
        ("quorum none # said\n", 1, "not a log"),
        ("log\nquorum none\n", 1, "not a log"),
        ("log nonsense\nquorum none\n", 1, "0x01"),
        (f"log {WITNESSES['X1'].vkey}\nquorum none\n", 1, "0x01"),
        (f"log {LOG.vkey} https://a.example https://b.example\nquorum none\n", 1, "not a log"),
        (f"log {LOG.vkey}\nlog {LOG.vkey}\nquorum none\n", 2, "second time"),
        (f"log {LOG.vkey}\nlog {NoteSigner('other.example', LOG.key).vkey}\nquorum none\n", 2, "second time"),
        ("witness a\nquorum none\n", 1, "not a log"),
        ("witness a nonsense\nquorum none\n", 1, "0x04"),
        (f"witness a {LOG.vkey}\nquorum none\n", 1, "0x04"),
        (A + A.replace(" a ", " b ") + "quorum none\n", 2, "second time"),
        (A + f"witness b {Cosigner('other.example', WITNESSES['X1'].key).vkey}\nquorum none\n", 2, "second time"),
        (A + B.replace(" b ", " a ") + "quorum none\n", 2, "already taken"),
        (A.replace(" a ", " none ") + "quorum none\n", 1, "already taken"),
        (A + "group a any a\nquorum none\n", 2, "already taken"),
        (A + "group none any a\nquorum none\n", 2, "already taken"),
        (A + "group g any\nquorum none\n", 2, "not a log"),
        (A + "group g any none\nquorum none\n", 2, "not defined above"),
        (A + "group g any g\nquorum none\n", 2, "not defined above"),
        (A + "group g any b\n" + B + "quorum none\n", 2, "not defined above"),
        (A + "group g any a a\nquorum none\n", 2, "second time"),
        (A + B + "group g any a\ngroup h all a b\nquorum none\n", 4, "second time"),
        *(
            (A + f"group g {k} a\nquorum g\n", 2, "threshold")
            for k in ("0", "2", "01", "+1", "1.0", "-1", "All", "\u0661")
        ),
        ("#" * MAX_POLICY_BYTES + "\nquorum none\n", 0, "limit"),
    ],
)
def test_a_file_outside_of_the_format_is_refused_by_its_line(text: str, line: int, says: str) -> None:
    error = refused(text)
    assert error.line == line
    assert says in error.detail


def test_a_file_that_cannot_be_read_or_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    for content, says in (
        (b"quorum none\n# \xff\n", "line 2 of the policy: not UTF-8"),
        (b"#" * (MAX_POLICY_BYTES - 1) + "ü\n".encode(), "limit"),
    ):
        path = tmp_path / "policy"
        path.write_bytes(content)
        with pytest.raises(PolicyError, match=says):
            load_policy(path)
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "absent")


@given(
    st.builds(
        lambda start, length, new: EXAMPLE[:start] + new + EXAMPLE[start + length :],
        st.integers(0, len(EXAMPLE)),
        st.integers(0, 60),
        st.one_of(st.text(max_size=4), st.sampled_from(["\n", " ", "quorum none\n", "group z any X1\n", EXAMPLE])),
    )
)
def test_a_changed_file_is_refused_or_asks_for_no_key_that_was_not_there(text: str) -> None:
    try:
        policy = Policy.parse(text)
    except PolicyError:
        return
    assert policy.text == text
    names = {witness.name for witness in policy.witnesses} | {group.name for group in policy.groups} | {"none"}
    assert policy.quorum in names
    assert set(policy.log_verifiers) <= {LOG.verifier}
    assert {verifier.public_key for verifier in policy.witness_verifiers} <= {
        witness.verifier.public_key for witness in WITNESSES.values()
    }
