"""`qctl amqp`: single commands of AMQP, for the RabbitMQ of a fleet, and a shell for them.

In:  a command and its arguments, as of Celery's `celery amqp`.  Out: its answer; the commands of one shell
share a channel, so that `basic.ack` finds what `basic.get` took. On other brokers: one sentence.
"""

from __future__ import annotations

import pprint
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand, CliGroup
from qctl.cli.confirm import CODES, ask, confirm_option
from qctl.cli.confirm import options as consent_options
from qctl.cli.print_error import print_error
from qctl.cli.session import session_of

if TYPE_CHECKING:
    from qctl.cli.session import Session

SCHEMES = ("amqp", "amqps", "pyamqp", "librabbitmq")
#: words that end the shell
ENDS = ("exit", "quit", ":exit", ":quit", ":q")
KEPT = "qctl.commands.amqp"


class Channel:
    """A connection and its channel, which are opened again after an error."""

    def __init__(self, session: Session) -> None:
        self._session, self._connection, self._channel = session, None, None  # type: Session, Any, Any

    def open(self) -> Any:
        """The channel; connects at first. Raises CommandError."""
        if self._channel is not None:
            return self._channel
        from qcore.celery.messaging import connection
        from qcore.errors import mask_url

        app = self._session.app
        url = str(app.broker_url())
        if url.partition(":")[0] not in SCHEMES:
            raise exit_codes.CommandError(
                exit_codes.USAGE,
                f"`qctl amqp` needs RabbitMQ, and the broker is {mask_url(url)}",
                "`qctl queue` works with every broker",
            )
        self._connection = connection(app)
        self._say(f"-> connecting to {self._connection.as_uri()}.")
        try:
            self._connection.connect()
            self._channel = self._connection.default_channel
        except self._errors() as exc:
            self.close()
            raise exit_codes.CommandError(
                exit_codes.UNAVAILABLE, f"cannot connect to RabbitMQ: {exc}"
            ) from exc
        self._say("-> connected.")
        return self._channel

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """What a method of the channel returns. Raises CommandError; the next call opens another channel
        then."""
        channel = self.open()
        try:
            return getattr(channel, method)(*args, **options)
        except self._errors() as exc:
            self.close()
            raise exit_codes.CommandError(exit_codes.FAILED, f"{method}: {exc}") from exc

    def close(self) -> None:
        found, self._connection, self._channel = self._connection, None, None
        if found is not None:
            found.release()

    def _errors(self) -> tuple[type[BaseException], ...]:
        from amqp.exceptions import AMQPError

        return (AMQPError, OSError)

    def _say(self, text: str) -> None:
        if not self._session.options.quiet:
            click.echo(text)


def _channel() -> Channel:
    """The channel of this run, which ends with it."""
    root = click.get_current_context().find_root()
    if KEPT not in root.meta:
        root.meta[KEPT] = Channel(session_of(root))
        root.call_on_close(root.meta[KEPT].close)
    found: Channel = root.meta[KEPT]
    return found


def _call(method: str, *args: Any, **options: Any) -> Any:
    return _channel().call(method, *args, **options)


def _ok() -> None:
    click.echo("OK")


# --- the commands


def _exchange_declare(exchange: str, type: str, passive: bool, durable: bool, auto_delete: bool) -> None:
    _call(
        "exchange_declare",
        exchange=exchange,
        type=type,
        passive=passive,
        durable=durable,
        auto_delete=auto_delete,
    )
    _ok()


def _exchange_delete(exchange: str, if_unused: bool, yes: bool, dry_run: bool) -> None:
    if _permitted(f"the exchange {exchange}", exchange, yes, dry_run):
        _call("exchange_delete", exchange=exchange, if_unused=if_unused)
        _ok()


def _queue_bind(queue: str, exchange: str, routing_key: str) -> None:
    _call("queue_bind", queue=queue, exchange=exchange, routing_key=routing_key)
    _ok()


def _queue_declare(queue: str, passive: bool, durable: bool, auto_delete: bool) -> None:
    name, messages, consumers = _call(
        "queue_declare", queue=queue, passive=passive, durable=durable, auto_delete=auto_delete
    )
    click.echo(f"queue:{name} messages:{messages} consumers:{consumers}")
    _ok()


def _queue_delete(queue: str, if_unused: bool, if_empty: bool, yes: bool, dry_run: bool) -> None:
    if _permitted(f"the queue {queue} with its messages", queue, yes, dry_run):
        _deleted(_call("queue_delete", queue=queue, if_unused=if_unused, if_empty=if_empty))


def _queue_purge(queue: str, yes: bool, dry_run: bool) -> None:
    if _permitted(f"all messages of {queue}", queue, yes, dry_run):
        _deleted(_call("queue_purge", queue=queue))


def _basic_get(queue: str, no_ack: bool) -> None:
    message = _call("basic_get", queue, no_ack=no_ack)
    if message is None:
        click.echo("No messages in queue. basic.publish something.")
    else:
        fields = ("body", "properties", "delivery_info")
        click.echo(pprint.pformat({field: getattr(message, field) for field in fields}))
    _ok()


def _basic_publish(msg: str, exchange: str, routing_key: str, mandatory: bool, immediate: bool) -> None:
    from amqp import Message

    _call(
        "basic_publish",
        Message(msg),
        exchange=exchange,
        routing_key=routing_key,
        mandatory=mandatory,
        immediate=immediate,
    )
    _ok()


def _basic_ack(delivery_tag: int) -> None:
    _call("basic_ack", delivery_tag)
    _ok()


def _deleted(count: Any) -> None:
    click.echo(f"{count} messages deleted.")
    _ok()


def _permitted(what: str, name: str, yes: bool, dry_run: bool) -> bool:
    """Whether to go on: not with --dry-run. Raises CommandError when it is not confirmed."""
    if dry_run:
        session_of(click.get_current_context()).out.note(f"{what} would be deleted (--dry-run)")
        return False
    ask(what, "deleted", yes, irreversible=name)
    return True


def _repl() -> None:
    """Read commands line by line, on one channel."""
    ctx = click.get_current_context()
    group, session = ctx.parent, session_of(ctx)
    assert group is not None and isinstance(group.command, CliGroup)
    before = session.argv[: session.argv.index("amqp") + 1]
    _channel().open()
    for line in _lines():
        if line in ENDS:
            return
        try:
            words = shlex.split(line)
            if not words:
                continue
            if words[0] in ("help", ":help"):
                names = group.command.list_commands(group)
                click.echo("\n".join([*(name for name in names if name != "repl"), *ENDS[:2]]))
                continue
            name, found, rest = group.command.resolve_command(group, words)
            if found is None or name == "repl":
                raise click.UsageError(f"no command named '{words[0]}' in the shell")
            session.argv = [*before, *words]
            with found.make_context(name, rest, parent=group) as inner:
                found.invoke(inner)
        except (click.ClickException, exit_codes.CommandError, ValueError) as exc:
            print_error(_explained(exc), session)
        except click.exceptions.Exit:
            continue  # --help


def _explained(exc: Exception) -> exit_codes.CommandError:
    if isinstance(exc, exit_codes.CommandError):
        return exc
    words = exc.format_message() if isinstance(exc, click.ClickException) else str(exc)
    return exit_codes.CommandError(exit_codes.USAGE, words.removesuffix("."))


def _lines() -> Iterator[str]:
    """What is typed, until the end of the input; a prompt on a terminal, with a history."""
    terminal = sys.stdin.isatty()
    if terminal:
        import readline  # noqa: F401  input() has editing and a history then
    while True:
        try:
            yield (input("> ") if terminal else _line()).strip()
        except EOFError:
            return


def _line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


# --- their pages


def _page(
    name: str,
    run: Callable[..., None],
    help: str,
    example: tuple[str, str],
    arguments: str = "",
    changes: bool = True,
    asks: bool = False,
) -> CliCommand:
    """arguments: words as `queue passive:bool`; those with a type may be left out, except `delivery_tag`."""
    params: list[click.Parameter] = []
    for word in arguments.split():
        argument, _, kind = word.partition(":")
        if kind == "bool":
            params.append(click.Argument([argument], type=bool, default=False))
        elif kind == "bool!":
            params.append(click.Argument([argument], type=bool))
        else:
            params.append(click.Argument([argument], type=int if kind == "int" else str))
    if asks:
        params += [*consent_options(), confirm_option()]
    return CliCommand(
        name,
        callback=run,
        params=params,
        help=help,
        examples=[example],
        exit_codes={
            **(CODES if asks else {}),
            exit_codes.FAILED: "RabbitMQ refused it" + (", or you answered no" if asks else ""),
        },
        see_also=["amqp repl", "queue"],
        changes=changes,
        watches=False,
    )


PAGES = (
    _page(
        "exchange.declare",
        _exchange_declare,
        "Declare an exchange.",
        ("qctl amqp exchange.declare post topic 0 1", "a durable one"),
        "exchange type passive:bool durable:bool auto_delete:bool",
    ),
    _page(
        "exchange.delete",
        _exchange_delete,
        "Delete an exchange.",
        ("qctl amqp exchange.delete post 1 --yes", "unless a queue is bound to it"),
        "exchange if_unused:bool!",
        asks=True,
    ),
    _page(
        "queue.bind",
        _queue_bind,
        "Bind a queue to an exchange.",
        ("qctl amqp queue.bind mails post 'mail.#'", "by a pattern of keys"),
        "queue exchange routing_key",
    ),
    _page(
        "queue.declare",
        _queue_declare,
        "Declare a queue, and count its messages and consumers.",
        ("qctl amqp queue.declare mails 1", "passive: only count"),
        "queue passive:bool durable:bool auto_delete:bool",
    ),
    _page(
        "queue.delete",
        _queue_delete,
        "Delete a queue with its messages.",
        ("qctl amqp queue.delete mails 1 1", "unless it has consumers or messages"),
        "queue if_unused:bool if_empty:bool",
        asks=True,
    ),
    _page(
        "queue.purge",
        _queue_purge,
        "Delete the messages that wait in a queue.",
        ("qctl amqp queue.purge mails --dry-run", "see what would be deleted"),
        "queue",
        asks=True,
    ),
    _page(
        "basic.get",
        _basic_get,
        "Take a message of a queue, and print it.\n\nUnless it is acknowledged in the same shell, or "
        "NO_ACK is given, it returns to the queue.",
        ("qctl amqp basic.get mails", "print one; it stays in the queue"),
        "queue no_ack:bool",
    ),
    _page(
        "basic.publish",
        _basic_publish,
        "Publish a text to an exchange; the default exchange is ''.",
        ("qctl amqp basic.publish 'a text' post mail.new", "with a routing key"),
        "msg exchange routing_key mandatory:bool immediate:bool",
    ),
    _page(
        "basic.ack",
        _basic_ack,
        "Acknowledge what basic.get took in the same shell.",
        ("qctl amqp basic.ack 1", "the delivery_tag that basic.get printed"),
        "delivery_tag:int",
    ),
    _page(
        "repl",
        _repl,
        "A shell for these commands, on one channel; `exit` ends it.",
        ("qctl amqp repl", "type commands, line by line"),
        changes=False,
    ),
)


@click.group(
    "amqp",
    cls=CliGroup,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND [ARGUMENTS]...]",
    examples=[
        ("qctl amqp", "check that RabbitMQ can be reached"),
        ("qctl amqp repl", "a shell for these commands"),
        ("qctl amqp queue.declare mails 1", "count the messages and consumers of a queue"),
    ],
    exit_codes={exit_codes.FAILED: "RabbitMQ refused it"},
    see_also=["queue", "call", "list bindings"],
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Single commands of AMQP and a shell, for RabbitMQ.

    Their arguments are those of Celery's `celery amqp`; a truth value is 0 or 1. Without a command,
    connect and end. `qctl queue` works with every broker, and with tasks instead of messages.
    """
    if ctx.invoked_subcommand is None:
        session_of(ctx).settle()
        _channel().open()


for page in PAGES:
    command.add_command(page)
