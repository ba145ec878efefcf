"""`--health-port`: the probes of `qctl health --local` over HTTP, for orchestrators that ask so.

In:  GET /live, /ready, /startup.  Out: 200 and `ok`, or 503 and what is wrong, as text.
It says the same as the health file (health_file.py), which it reads. The server is a thread of the worker's
process: one that hangs as a whole does not answer, which a probe takes for a failure too.
"""

from __future__ import annotations

from qcore.worker.services.health_file import HealthFile
from qcore.worker.services.http_port import Answer, HttpPort

PROBES = ("/live", "/ready", "/startup")


def health_port(address: tuple[str, int], file: HealthFile) -> HttpPort:
    """The service."""

    def answer(path: str, accept: str) -> Answer:
        if path not in PROBES:
            return Answer(404, f"the paths are {', '.join(PROBES)}\n".encode())
        wrong = file.trouble(path[1:])
        return Answer(503 if wrong else 200, f"{wrong or 'ok'}\n".encode())

    return HttpPort(address, "--health-port", "health", answer)
