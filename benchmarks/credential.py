"""What our credential costs beyond bare c2pa-python, on one 1024 x 1024 PNG: `python benchmarks/credential.py`.

Bare is the SDK as its documentation shows it, doing the smallest thing that is a credential: an actions assertion, its
own thumbnail at the settings we found right (JPEG, low, 256 px), context and signer reused. Ours writes every assertion
a generated image gets, with a tlog-proof and an attribution of realistic size, and the thumbnail from pixels in hand.
All alternate in one run, so that a noisy machine is noisy for both. Times in ms: p50 (p10-p90).
"""

import argparse
import io
import json
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import c2pa  # type: ignore[import-untyped]
import numpy as np
from PIL import Image

from ledger.credentials.read import read_credential
from ledger.credentials.write import (
    AI_MADE,
    TRUST_CONFIG,
    CredentialRequest,
    ModelDisclosure,
    new_manifest_urn,
    thumbnail,
    write_credential,
)
from ledger.keys.ring import KeyRing, init_keys

TARGET_MS = 15.0


def picture(size: int = 1024) -> tuple[np.ndarray, bytes]:
    """A smooth picture with some grain, as a generator's are: about 2 MB of PNG."""
    y, x = np.mgrid[:size, :size]
    grain = np.random.default_rng(0).normal(0, 8, (size, size, 3))
    pixels = (np.stack([x * 255 / size, y * 255 / size, (x + y) % 256], -1) + grain).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png", compress_level=6)
    return pixels, out.getvalue()


def bare(ring: KeyRing, data: bytes, *, with_thumbnail: bool) -> Callable[[], bytes]:
    thumbnails = {"enabled": with_thumbnail, "format": "jpeg", "quality": "low", "long_edge": 256}
    trust = {"user_anchors": ring.root_pem, "trust_config": TRUST_CONFIG}
    context = c2pa.Context.from_dict({"trust": trust, "builder": {"thumbnail": thumbnails}})
    key = ring.credential
    signer = c2pa.Signer.from_callback(key.key.sign, c2pa.C2paSigningAlg.ES256, key.certificates_pem, None)
    action = {"action": "c2pa.created", "digitalSourceType": AI_MADE}
    definition = {
        "claim_generator_info": [{"name": "bare"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }

    def write() -> bytes:
        out = io.BytesIO()
        c2pa.Builder(definition, context).sign(signer, "image/png", io.BytesIO(data), out)
        return out.getvalue()

    return write


def ours(ring: KeyRing, data: bytes, pixels: np.ndarray) -> Callable[[], bytes]:
    works = [{"work": f"0192-{n}", "artist": f"artist {n}", "score": round(0.9 - n / 50, 3)} for n in range(20)]

    def write() -> bytes:
        request = CredentialRequest(
            manifest_urn=new_manifest_urn(),
            intent="create",
            software=("atelier", "r1"),
            ledger={"schema": "lawful-ledger/record/1", "statement": "A" * 1200, "tlog_proof": "h" * 1500},
            attribution={"statement": "no single source stands out", "nearest": works},
            iscc="ISCC:EEDWXRKVZSHAXOSQ",
            model=ModelDisclosure("atelier", "atelier@sha256:00ff"),
            thumbnail=thumbnail(pixels),
        )
        return write_credential(data, "image/png", request, ring.credential, root_pem=ring.root_pem).data

    return write


def measure(runs: int) -> dict[str, object]:
    pixels, data = picture()
    with tempfile.TemporaryDirectory() as home:
        ring = init_keys(Path(home) / "keys", "localhost/ledger/2026", now=datetime.now(UTC))
    write_ours = ours(ring, data, pixels)
    signed = write_ours()

    def read() -> bytes:
        reading = read_credential(signed, "image/png", anchors_pem=ring.root_pem, now=datetime.now(UTC))
        assert reading.signer == "trusted"
        return signed

    subjects: dict[str, Callable[[], bytes]] = {
        "bare": bare(ring, data, with_thumbnail=True),
        "bare, no thumbnail": bare(ring, data, with_thumbnail=False),
        "ours": write_ours,
        "ours, thumbnail alone": lambda: thumbnail(pixels) or b"",
        "read ours": read,
    }
    times: dict[str, list[float]] = {name: [] for name in subjects}
    added = {name: len(call()) - len(data) for name, call in subjects.items()}
    for _ in range(runs):
        for name, call in subjects.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1000)
    result: dict[str, object] = {"png_bytes": len(data), "runs": runs, "machine": platform.processor() or "unknown"}
    for name, values in times.items():
        p10, p50, p90 = np.percentile(values, [10, 50, 90])
        result[name] = {"p50_ms": round(p50, 1), "p10_ms": round(p10, 1), "p90_ms": round(p90, 1)}
        print(f"{name:24} {p50:7.1f} ({p10:.1f}-{p90:.1f})")
    for reference in ("bare", "bare, no thumbnail"):
        differences = np.array(times["ours"]) - np.array(times[reference])
        ratios = np.array(times["ours"]) / np.array(times[reference])
        low, middle, high = np.percentile(differences, [10, 50, 90])
        result[f"ours beyond {reference}"] = {"p50_ms": round(middle, 1), "ratio": round(float(np.median(ratios)), 3)}
        print(f"ours beyond {reference}: {middle:+.1f} ms ({low:+.1f} to {high:+.1f}), ratio {np.median(ratios):.3f}")
    print(f"credential: {added['ours']} bytes, bare {added['bare']} bytes; target: at most {TARGET_MS:+.0f} ms")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    figures = measure(arguments.runs)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
