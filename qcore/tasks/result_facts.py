"""What a result tells besides its value: what is stored with it, and the results that follow from it.

In:  a result (result.py is built on this).  Out: attributes, iterators, a graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from qcore.base.times import when
from qcore.errors import IncompleteStream
from qcore.wire.result import ResultMeta


class ResultFacts:
    """The part of AsyncResult that only reads what meta() and children give."""

    __slots__ = ()
    id: str
    parent: Any

    def meta(self) -> ResultMeta:
        raise NotImplementedError

    @property
    def children(self) -> list[Any]:
        raise NotImplementedError

    def ready(self) -> bool:
        raise NotImplementedError

    @property
    def traceback(self) -> str | None:
        return self.meta().traceback

    @property
    def date_done(self) -> datetime | None:
        """When the task ended, in UTC; None before that."""
        done = self.meta().date_done
        return datetime.fromtimestamp(when(done, 0), UTC) if done else None

    @property
    def task_id(self) -> str:
        return self.id

    @property
    def supports_native_join(self) -> bool:
        """Whether one round trip can read several."""
        return True

    @property
    def name(self) -> str | None:
        """The name of the task; this and the next are stored with the setting result_extended, else None."""
        return self.meta().name

    @property
    def args(self) -> Any:
        return self.meta().args

    @property
    def kwargs(self) -> Any:
        return self.meta().kwargs

    @property
    def worker(self) -> str | None:
        return self.meta().worker

    @property
    def retries(self) -> int | None:
        return self.meta().retries

    @property
    def queue(self) -> str | None:
        return self.meta().queue

    def get_leaf(self) -> Any:
        """The value of the last task that was called from this one, by the last child of each."""
        value = None
        for _, result in self.iterdeps():
            value = result.get()
        return value

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """(parent, result) of this result and of all that follow from it, level by level.

        Raises IncompleteStream at one that is not ready, unless intermediate.
        """
        waiting: list[tuple[Any, Any]] = [(None, self)]
        while waiting:
            parent, node = waiting.pop(0)
            yield parent, node
            if not node.ready():
                if not intermediate:
                    raise IncompleteStream(f"{node} is not ready; intermediate=True does not stop there")
                continue
            waiting.extend((node, child) for child in node.children)

    def build_graph(self, intermediate: bool = False, formatter: Any = None) -> ResultGraph:
        """This result and all that follow from it; as iterdeps(). formatter: what to_dot() draws with."""
        graph = ResultGraph(formatter)
        for parent, node in self.iterdeps(intermediate):
            graph.add_arc(node)
            if parent is not None:
                graph.add_edge(parent, node)
        return graph

    @property
    def graph(self) -> ResultGraph:
        return self.build_graph()

    def collect(self, intermediate: bool = False, **options: Any) -> Iterator[tuple[Any, Any]]:
        """(result, value) of this result and of all that follow from it; the options are those of get()."""
        for _, result in self.iterdeps(intermediate):
            yield result, result.get(**options)


class ResultGraph:
    """Results and those that followed from each."""

    def __init__(self, formatter: Any = None) -> None:
        self.formatter = formatter
        self.adjacent: dict[Any, list[Any]] = {}

    def add_arc(self, result: Any) -> None:
        self.adjacent.setdefault(result, [])

    def add_edge(self, result: Any, child: Any) -> None:
        self.adjacent[result].append(child)

    def valency_of(self, result: Any) -> int:
        """How many edges lead on from a result, and from all behind it."""
        found = self.adjacent.get(result, [])
        return len(found) + sum(self.valency_of(one) for one in found)

    def edges(self) -> Iterator[Any]:
        """The results from which others followed."""
        return (result for result, found in self.adjacent.items() if found)

    def items(self) -> Any:
        return self.adjacent.items()

    def topsort(self) -> list[Any]:
        """The results, each behind those that followed from it."""
        found: list[Any] = []

        def visit(result: Any) -> None:
            if result not in found:
                for child in self.adjacent.get(result, ()):
                    visit(child)
                found.append(result)

        for result in self.adjacent:
            visit(result)
        return found

    def to_dot(self, fh: Any, formatter: Any = None) -> None:
        """Write the graph in the format of Graphviz. formatter: an object as Celery's GraphFormatter, whose
        head(), node(), terminal_node(), edge() and tail() return lines; or the graph's own."""
        draw = formatter or self.formatter
        if draw is not None:
            self._draw(fh, draw)
            return
        print("digraph results {", file=fh)
        for result, children in self.adjacent.items():
            print(f'    "{result}";', file=fh)
            for child in children:
                print(f'    "{result}" -> "{child}";', file=fh)
        print("}", file=fh)

    def _draw(self, out: Any, formatter: Any) -> None:
        seen = set()

        def write(line: str | bytes) -> None:
            print(line.decode() if isinstance(line, bytes) else line, file=out)

        write(formatter.head())
        for result, children in self.adjacent.items():
            if (label := formatter.label(result)) not in seen:
                seen.add(label)
                write((formatter.node if children else formatter.terminal_node)(result))
            for child in children:
                write(formatter.edge(result, child))
        write(formatter.tail())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.adjacent)

    def __getitem__(self, result: Any) -> list[Any]:
        return self.adjacent[result]

    def __contains__(self, result: Any) -> bool:
        return result in self.adjacent

    def __len__(self) -> int:
        return len(self.adjacent)
