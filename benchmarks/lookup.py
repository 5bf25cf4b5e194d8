"""Look-ups by file, pixels, ISCC and likeness among many records, against an empty round trip to the same database.

    python -m benchmarks.lookup [--records 100000] [--runs 300]

The records are written straight into the table, with random fingerprints and no files. Random bits are the hard case
for the approximate index (no neighbour is near), and honest for exact look-ups.
"""

import argparse
import time
import uuid

import numpy as np
import psycopg
import sqlalchemy as sa

from attribution.fingerprints import Fingerprints, bits, image_code, iscc_bits
from benchmarks.measuring import ratio, show, spread, throwaway_ledger
from ledger import lookup
from ledger.database.embedded import EmbeddedPostgres
from ledger.runtime import Runtime

INDEXES = {
    "records_pdq_hnsw": "pdq bit_hamming_ops) WHERE listed AND pdq IS NOT NULL",
    "records_iscc_bits_hnsw": "iscc_bits bit_hamming_ops) WHERE listed AND iscc_bits IS NOT NULL",
}


def fill(runtime: Runtime, records: int, *, similar: bool = True) -> list[tuple[str, str]]:
    """Insert issued records by COPY, as the tables' owner; returns (file sha256, pixel sha256) of each.

    The approximate indexes are built afterwards: adding rows to them one by one takes ten times as long. Without
    `similar` there are none, for who asks by hash alone.
    """
    random = np.random.default_rng(1)
    hashes = []
    server = EmbeddedPostgres(runtime.settings.postgres_folder)
    with psycopg.connect(server.url("lawful_owner"), autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SET maintenance_work_mem = '512MB'")
        for index in INDEXES:
            cursor.execute(f"DROP INDEX {index}")
        with cursor.copy(
            "COPY records (id, kind, state, listed, file_sha256, pixel_sha256, iscc, iscc_bits, pdq, statement,"
            " leaf_hash, issued_leaf, file_key, media_type) FROM STDIN"
        ) as copy:
            for number in range(records):
                file, pixels, leaf, issued = (random.bytes(32) for _ in range(4))
                code, pdq = random.bytes(32).hex(), random.bytes(32).hex()
                hashes.append((file.hex(), pixels.hex()))
                copy.write_row(
                    (
                        uuid.UUID(int=number + 1), "stamp", "issued", True, file, pixels, f"ISCC:{code}", bits(code),
                        bits(pdq), b"statement", leaf, issued, f"files/{number}", "image/png",
                    )
                )  # fmt: skip
        cursor.execute("INSERT INTO stamps (record_id, ai_origin) SELECT id, false FROM records")
        for index, columns in INDEXES.items() if similar else ():
            cursor.execute(f"CREATE INDEX {index} ON records USING hnsw ({columns}")
        cursor.execute("ANALYZE records")
    server.detach()
    return hashes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=300)
    options = parser.parse_args()
    random = np.random.default_rng(2)
    with throwaway_ledger() as runtime:
        started = time.perf_counter()
        hashes = fill(runtime, options.records)
        filled = time.perf_counter() - started
        timed: dict[str, list[float]] = {name: [] for name in ("empty", "file", "pixels", "none", "similar")}

        def measure(name: str, ask: object) -> None:
            begun = time.perf_counter()
            ask()  # type: ignore[operator]
            timed[name].append(time.perf_counter() - begun)

        with runtime.sessions() as session:
            for _ in range(options.runs):
                file, pixels = hashes[int(random.integers(len(hashes)))]
                noise = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                found = Fingerprints(file, pixels, image_code(noise), "", random.bytes(32).hex(), 100, 32, 32)
                assert iscc_bits(found.iscc)
                measure("empty", lambda: session.execute(sa.text("SELECT 1")).scalar())
                measure("file", lambda file=file: lookup.find(session, file_sha256=file))
                measure("pixels", lambda pixels=pixels: lookup.find(session, pixel_sha256=pixels))
                measure("none", lambda: lookup.find(session, pixel_sha256=random.bytes(32).hex()))
                measure("similar", lambda found=found: lookup.similar(session, found))
    show(
        {
            "records": options.records,
            "fill_s": round(filled, 1),
            "look_ups": {name: spread(values) for name, values in timed.items()},
            "ratio_to_empty": {name: ratio(timed[name], timed["empty"]) for name in timed if name != "empty"},
        }
    )


if __name__ == "__main__":
    main()
