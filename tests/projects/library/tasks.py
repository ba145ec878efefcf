from celery import shared_task


@shared_task(name="library.add")
def add(x, y):
    return x + y


@shared_task(name="library.total")
def total(numbers):
    return sum(numbers)


@shared_task(name="library.fail")
def fail(word):
    raise ValueError(word, 3)


@shared_task(name="library.parent", bind=True)
def parent(self):
    add.delay(5, 5)
    return {"é": None}
