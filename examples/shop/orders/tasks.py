"""What happens to an order once it is in the database."""

from celery import shared_task
from celery.utils.log import get_task_logger
from django.db import transaction
from django.db.models import F

from .models import Order, Product, Receipt

log = get_task_logger(__name__)


class BankUnavailable(Exception):
    """The bank did not answer; a later attempt may succeed."""


class CardRefused(Exception):
    """The bank refused the card for good."""


@shared_task(autoretry_for=(BankUnavailable,), max_retries=3, default_retry_delay=0, throws=(CardRefused,))
def charge(order_id):
    """Charge the card. One that is called `slow-2` works at the third attempt."""
    Order.objects.filter(pk=order_id).update(attempts=F("attempts") + 1)
    order = Order.objects.get(pk=order_id)
    kind, _, failures = order.card.partition("-")
    if kind == "slow" and order.attempts <= int(failures):
        raise BankUnavailable(f"attempt {order.attempts}")
    if kind == "refused":
        Order.objects.filter(pk=order_id).update(state="refused")
        raise CardRefused(order.card)
    Order.objects.filter(pk=order_id).update(state="charged")
    return order_id


@shared_task
def reserve(order_id):
    """Take the goods from the stock, and send the receipt once that is committed."""
    with transaction.atomic():
        order = Order.objects.select_related("product").get(pk=order_id)
        goods = Product.objects.filter(pk=order.product_id, stock__gte=order.quantity)
        order.state = "sent" if goods.update(stock=F("stock") - order.quantity) else "sold out"
        order.save(update_fields=["state"])
        send_receipt.delay_on_commit(order_id)
    log.info("order %s is %s", order_id, order.state)
    return order.state


@shared_task(ignore_result=True)
def send_receipt(order_id):
    order = Order.objects.select_related("product").get(pk=order_id)
    Receipt.objects.create(order=order, text=f"{order.quantity} {order.product.name}: {order.state}")


@shared_task
def stock_report():
    return {product.name: product.stock for product in Product.objects.order_by("name")}
