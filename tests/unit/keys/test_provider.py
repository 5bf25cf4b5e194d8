"""A key provider is never believed: what it gives is verified, and a question has an end."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from ledger.errors import BadRequest, Unavailable
from ledger.keys import provider
from ledger.keys.provider import GuardedProvider
from ledger.log.signing import SoftwareEs256Key, SoftwareKey

ED25519, P256 = SoftwareKey.generate(), SoftwareEs256Key.generate()


class Keys:
    """A provider whose keys sign as `sign` does."""

    def __init__(self, sign: Callable[[bytes], Any], public: Any = None) -> None:
        self._sign, self._public = sign, public

    def ed25519(self, use: str, kid: bytes | None) -> Any:
        return _Key(self._sign, self._public or ED25519.public_key)

    def es256(self, use: str, kid: bytes | None) -> Any:
        return _Key(self._sign, self._public or P256.public_key_der)


class _Key:
    def __init__(self, sign: Callable[[bytes], Any], public: Any) -> None:
        self.sign, self.public_key, self.public_key_der = sign, public, public


def raising(error: Exception) -> Callable[[bytes], bytes]:
    def sign(_: bytes) -> bytes:
        raise error

    return sign


def test_right_signatures_pass_through() -> None:
    assert GuardedProvider(Keys(ED25519.sign)).ed25519("log").sign(b"x") == ED25519.sign(b"x")
    assert len(GuardedProvider(Keys(P256.sign)).es256("receipts").sign(b"x")) == 64


@pytest.mark.parametrize(
    "sign",
    [
        SoftwareKey.generate().sign,
        SoftwareEs256Key.generate().sign,
        lambda _: b"",
        lambda _: None,
        lambda _: "text",
        lambda message: ED25519.sign(message)[:-1],
        lambda message: ED25519.sign(message + b"x"),
        lambda message: P256.sign(message + b"x"),
    ],
)
def test_any_other_signature_is_refused(sign: Callable[[bytes], Any]) -> None:
    for signer in (GuardedProvider(Keys(sign)).ed25519("log"), GuardedProvider(Keys(sign)).es256("receipts")):
        with pytest.raises(Unavailable) as refused:
            signer.sign(b"message")
        assert refused.value.code == "key_provider_wrong"


@pytest.mark.parametrize("public", ["text", bytes(31), bytes(33), b"\x30\x00", ED25519])
def test_what_is_no_public_key_is_refused(public: Any) -> None:
    guarded = GuardedProvider(Keys(ED25519.sign, public))
    for ask in (guarded.ed25519, guarded.es256):
        with pytest.raises(Unavailable) as refused:
            ask("log")  # type: ignore[arg-type]
        assert refused.value.code == "key_provider_wrong"


@pytest.mark.parametrize("error", [OSError("down"), ValueError("no"), KeyError("key"), RuntimeError("secret")])
def test_a_failure_has_one_code_and_is_not_quoted(error: Exception) -> None:
    signer = GuardedProvider(Keys(raising(error))).ed25519("statements")
    with pytest.raises(Unavailable) as refused:
        signer.sign(b"x")
    assert refused.value.code == "key_provider_down"
    assert "secret" not in refused.value.detail


def test_a_silent_provider_is_given_up_and_does_not_pile_up_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "TIMEOUT", 0.05)
    monkeypatch.setattr(provider, "MAX_QUESTIONS", 2)
    released = threading.Event()

    def silent(message: bytes) -> bytes:
        released.wait(30)
        return ED25519.sign(message)

    signer = GuardedProvider(Keys(silent)).ed25519("log")
    before = threading.active_count()
    started = time.monotonic()
    for _ in range(6):
        with pytest.raises(Unavailable) as refused:
            signer.sign(b"x")
        assert refused.value.code == "key_provider_down"
    assert time.monotonic() - started < 5
    assert threading.active_count() <= before + 2
    released.set()
    monkeypatch.setattr(provider, "TIMEOUT", 10.0)
    assert signer.sign(b"x") == ED25519.sign(b"x")


@pytest.mark.parametrize("setting", ["nowhere", "no.such.package:function", "ledger.keys:nothing", ":", "a:b:c"])
def test_a_setting_that_leads_nowhere_is_named(setting: str) -> None:
    with pytest.raises(BadRequest) as refused:
        provider.load_provider(setting)
    assert refused.value.code == "key_provider_invalid"


def test_without_the_setting_there_is_no_provider() -> None:
    assert provider.load_provider(None) is None
