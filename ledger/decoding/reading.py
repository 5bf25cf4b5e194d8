"""What is asked of whoever opens a file, and the plain way to do it: in this process, without any wall around it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ledger.credentials.read import CredentialReading, read_credential
from models.images import DecodedImage, Limits, decode


class FileReader(Protocol):
    """Opens files of strangers. The answers are those of `models.images.decode` and of `read_credential`."""

    def decode(self, data: bytes) -> DecodedImage: ...

    def read_credential(
        self, data: bytes, media_type: str, *, anchors_pem: str, now: datetime
    ) -> CredentialReading: ...


@dataclass(frozen=True)
class InThisProcess:
    """For somebody who looks at a file on their own machine; and what `ledger.decoding.child` does behind its walls."""

    limits: Limits

    def decode(self, data: bytes) -> DecodedImage:
        return decode(data, self.limits)

    def read_credential(self, data: bytes, media_type: str, *, anchors_pem: str, now: datetime) -> CredentialReading:
        return read_credential(data, media_type, anchors_pem=anchors_pem, now=now)


IN_THIS_PROCESS = InThisProcess(Limits())
