"""A record's report as a document: drawn up once, the same bytes for everybody, and checked from itself alone."""

import pytest

from ledger.file_proof import Trust
from ledger.reports.checking import ReportVerification, check_document, is_bad
from ledger.reports.document import signed_dossier, signed_pdf
from ledger.reports.forms import to_json, to_zip
from ledger.reports.render import render
from ledger.runtime import Runtime

from .reported import issue_reported

pytestmark = pytest.mark.postgres


def look(runtime: Runtime, data: bytes) -> ReportVerification:
    return check_document(
        data, trust=Trust([runtime.keys.log.vkey]), roots_pem=runtime.keys.root_pem, now=runtime.clock()
    )


def test_a_report_is_proven_by_the_log_key_alone_in_each_of_its_forms(runtime: Runtime) -> None:
    record_id = issue_reported(runtime)
    import time
    t = time.time()
    dossier, pdf = signed_dossier(runtime, record_id)
    print("drawn", time.time() - t)
    open("/tmp/rep/int.pdf", "wb").write(pdf)
    for data in (pdf, to_zip(dossier, pdf), to_json(dossier)):
        t = time.time()
        found = look(runtime, data)
        print(found.verdict, time.time() - t)
        for c in found.checks:
            print(c.step, c.result, c.name, c.code[:60])
    assert 0
