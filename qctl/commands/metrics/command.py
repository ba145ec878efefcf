"""`qctl metrics`: fleet metrics in Prometheus text format."""

from __future__ import annotations

import time
from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand, CliGroup
from qctl.cli.session import current
from qctl.cli.types import Span
from qctl.commands.metrics.collector import Collector

PORT = 9540

command = CliGroup(
    "metrics",
    help="Fleet metrics in Prometheus text format.",
    examples=[("qctl metrics serve", "at http://127.0.0.1:9540/metrics")],
    subcommand_metavar="COMMAND",
    see_also=["status", "queue ls", "events"],
)


def _show(listen: float) -> None:
    session = current()
    session.broker.check()
    collector = Collector(session.app)
    if listen:
        collector.start()
        time.sleep(listen)
    text = collector.text()
    if listen:
        collector.stop()
    if session.out.for_people:
        session.out.text(text.rstrip())
    else:
        session.out.document("metrics", {"text": text})


def _serve(host: str, port: int) -> int:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    session = current()
    session.patient = True
    collector = Collector(session.app)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] not in ("/metrics", "/"):
                self.send_error(404, "the path is /metrics")
                return
            body = collector.text().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: a scrape every few seconds is not worth a line."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as exc:
        raise exit_codes.CommandError(
            exit_codes.FAILED, f"cannot listen at {host}:{port}: {exc.strerror}", "choose another --port"
        ) from None
    collector.start()
    session.out.warn(f"serving http://{host}:{server.server_port}/metrics; Ctrl-C ends")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
        collector.stop()
    return exit_codes.OK


command.add_command(
    CliCommand(
        "serve",
        callback=_serve,
        watches=False,
        params=[
            click.Option(["--host"], default="127.0.0.1", help="Address to listen on. [default: 127.0.0.1]"),
            click.Option(
                ["--port"],
                type=click.IntRange(0, 65535),
                default=PORT,
                help="Port to listen on; 0: any free one. [default: 9540]",
            ),
        ],
        help="""Serve metrics over HTTP until Ctrl-C.

        There is no authentication: every client that reaches the address can read them. Task metrics
        come from events, so workers must send them (-E, or `qctl control enable_events`).""",
        examples=[("qctl metrics serve --port 9540", "for Prometheus on the same host")],
        exit_codes={exit_codes.FAILED: "the port is taken"},
        see_also=["metrics show"],
    )
)
command.add_command(
    CliCommand(
        "show",
        callback=_show,
        params=[
            click.Option(
                ["--listen"],
                type=Span(),
                default=0.0,
                help="Collect events for this long first. [default: 0]",
            )
        ],
        help="Print the metrics once.",
        examples=[
            ("qctl metrics show", "queues and workers"),
            ("qctl metrics show --listen 10s", "tasks too"),
        ],
        see_also=["metrics serve"],
    )
)
