"""`python -m ledger.alive PORT/PATH`: exit code 0 if this machine answers 200 there. For health checks in containers,
which hold no curl; the standard library alone, so that it costs 30 ms and not the whole program.
"""

import http.client
import sys


def alive(address: str, timeout: float = 2.0) -> bool:
    """Whether `PORT/PATH` of this machine answers 200 within `timeout` seconds. Raises ValueError without a port."""
    port, _, path = address.partition("/")
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=timeout)
    try:
        connection.request("GET", f"/{path}")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if alive(sys.argv[1]) else 1)
