"""Mistakes: a type checker must report each line that ends with `# error`, and no other."""

from __future__ import annotations

from qcore import App, AsyncResult, Task, shared_task

app = App("typed")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


add.delay("x", 2)  # error
add.delay(1, 2, 3)  # error
add.delay()  # error
add.delay(1, z=2)  # error
add("x")  # error
text: str = add.delay(1).get()  # error
add.apply_async((1, 2), cuontdown=3)  # error
add.apply_async((1, 2), countdown="soon")  # error
add.apply((1, 2), tsak_id="x")  # error


@app.task(bind=True)
def bound(self: Task, x: int) -> str:
    return str(x)


bound.delay(bound, 1)  # error
bound.delay("x")  # error
bound("x")  # error


@app.task
async def fetch(url: str) -> bytes:
    return url.encode()


fetch.delay(1)  # error
number: int = fetch.delay("x").get()  # error
fetch.apply_async(("x",), quue="q")  # error


@app.task(max_retires=3)  # error
def misspelt() -> None: ...


@app.task(acks_late="yes")  # error
def wrong_type() -> None: ...


@shared_task
def shared(x: int) -> int:
    return x


shared.delay("x")  # error


@shared_task(bind=True)
def shared_bound(self: Task, x: int) -> int:
    return x


shared_bound.delay("x")  # error
wrong: AsyncResult[str] = shared.delay(1)  # error


async def in_a_coroutine() -> None:
    await add.adelay("x")  # error
    await add.aapply_async((1,), qeue="q")  # error
    await fetch.adelay(1)  # error
    (await (await add.adelay(1))).upper()  # error
