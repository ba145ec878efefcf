from celery import shared_task


@shared_task(name="periodic.note")
def note(*args, **kwargs):
    return [args, kwargs]
