"""What a type checker must understand; test_types.py runs mypy over it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_type

from qcore import App, AsyncResult, Task, shared_task

app = App("typed")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


assert_type(add.delay(1, 2), AsyncResult[int])
assert_type(add.delay(1, y=2).get(timeout=1), int)
assert_type(add.apply_async((1, 2), queue="q", countdown=1.5), AsyncResult[int])
assert_type(add.apply((1, 2)).get(), int)
assert_type(add.AsyncResult("id").get(), int)
assert_type(add(1, 2), int)
assert_type(add.delay(1).get(propagate=False), int | BaseException)


@app.task(name="x", max_retries=5, autoretry_for=(OSError,), queue="q")
def with_options(text: str) -> list[str]:
    return [text]


assert_type(with_options.delay("x").get(), list[str])


@app.task()
def empty_brackets(x: int) -> int:
    return x


assert_type(empty_brackets.delay(1).get(), int)


@app.task(bind=True, max_retries=2)
def bound(self: Task, x: int) -> str:
    raise self.retry(countdown=1)


assert_type(bound.delay(1), AsyncResult[str])
assert_type(bound(1), str)


@app.task(bind=True)
def bound_untyped_self(self, x: int) -> str:  # type: ignore[no-untyped-def]
    return str(x)


bound_untyped_self.delay(1)


@app.task
async def fetch(url: str) -> bytes:
    return url.encode()


assert_type(fetch.delay("x").get(), bytes)
assert_type(fetch.apply_async(("x",)).get(), bytes)
coroutine: Coroutine[Any, Any, bytes] = fetch("x")


@app.task(bind=True)
async def bound_fetch(self: Task, url: str) -> bytes:
    return url.encode()


assert_type(bound_fetch.delay("x").get(), bytes)


@shared_task
def shared(x: int) -> int:
    return x


@shared_task(bind=True, name="s")
def shared_bound(self: Task, x: int) -> int:
    return x


@shared_task
async def shared_fetch(x: int) -> str:
    return str(x)


assert_type(shared.delay(1).get(), int)
assert_type(shared_bound.delay(1).get(), int)
assert_type(shared_fetch.delay(1).get(), str)


class WithDatabase(Task):
    def connect(self) -> str:
        return "db"

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> AsyncResult[Any]:
        return super().apply_async(args, kwargs, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)

    def run(self, x: int) -> int:
        return x


@app.task(base=WithDatabase, bind=True, once={"keys": ["x"]})
def query(self: WithDatabase, x: int) -> str:
    return self.connect()


assert_type(query, WithDatabase)
assert_type(query.connect(), str)


@app.task(pydantic=True, pydantic_strict=True)
def validated(x: int) -> int:
    return x


assert_type(validated.delay({"x": 1}), AsyncResult[Any])


def takes_a_task(task: Task[[int], int], any_task: Task, result: AsyncResult) -> int:
    return task.delay(1).get()


takes_a_task(empty_brackets, add, add.delay(1))


@app.task
def untyped(x, y):  # type: ignore[no-untyped-def]
    return x


assert_type(untyped.delay(1, 2).get(), Any)

results: list[AsyncResult[object]] = [add.delay(1), with_options.delay("x")]


async def in_a_coroutine() -> None:
    assert_type(await add.adelay(1, y=2), AsyncResult[int])
    assert_type(await (await add.aapply_async((1,), queue="q")), int)
    assert_type(await (await fetch.adelay("x")), bytes)
    assert_type(await (await fetch.aapply_async(("x",))).aget(timeout=1), bytes)
    async with app as entered:
        assert_type(entered, App)
