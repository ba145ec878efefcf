"""A FastAPI service on qcore's own API: its coroutines await tasks and results, and block nothing.

    qctl -A quotes worker        and        uvicorn quotes:api

REDIS_URL is the broker and the store of results.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from qcore import App, group
from qcore.errors import TimeoutError

queue = App("quotes", broker=os.environ.get("REDIS_URL", "redis://localhost:6379/0"))


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    async with queue:
        yield


api = FastAPI(lifespan=lifespan)


class Order(BaseModel):
    article: str
    number: int


@queue.task(name="quotes.price")
def price(article: str, number: int) -> float:
    if number < 1:
        raise ValueError(f"{number} of {article} cannot be sold")
    return number * (9.5 if number < 100 else 8.0)


@api.post("/orders", status_code=202)
async def order(order: Order) -> dict[str, str]:
    result = await price.adelay(order.article, order.number)
    return {"id": result.id}


@api.get("/orders/{task_id}")
async def wait_for_price(task_id: str, timeout: float = 5.0) -> dict[str, float]:
    try:
        return {"price": await queue.AsyncResult(task_id).aget(timeout=timeout)}
    except TimeoutError:
        raise HTTPException(404, "not ready, or unknown") from None
    except ValueError as exc:
        raise HTTPException(422, str(exc)) from None


@api.post("/quotes")
async def quote(orders: list[Order]) -> dict[str, float]:
    results = await group(price.s(o.article, o.number) for o in orders).aapply_async()
    return {"total": sum(await results)}
