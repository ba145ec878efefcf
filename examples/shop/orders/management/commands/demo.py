"""`python manage.py demo`: place some orders, wait for them, print what became of them."""

import json
import time

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import transaction

from orders.models import Order, Product, Receipt
from orders.tasks import charge, reserve, stock_report


class ChangedMind(Exception):
    pass


def place(product, quantity, card):
    """Store an order; its tasks are sent when the transaction is committed."""
    order = Order.objects.create(product=product, quantity=quantity, card=card)
    steps = charge.s(order.pk) | reserve.s()
    transaction.on_commit(steps.delay)
    return order


class Command(BaseCommand):
    def handle(self, *args, **options):
        call_command("migrate", run_syncdb=True, verbosity=0)
        lamp, _ = Product.objects.get_or_create(name="lamp", defaults={"stock": 5})
        with transaction.atomic():
            place(lamp, 2, "good")
        with transaction.atomic():
            place(lamp, 1, "slow-2")
        with transaction.atomic():
            place(lamp, 9, "good")
        with transaction.atomic():
            place(lamp, 1, "refused")
        with transaction.atomic():
            place(lamp, 1, "slow-9")
        try:
            with transaction.atomic():
                place(lamp, 1, "good")
                raise ChangedMind
        except ChangedMind:
            pass
        open_orders = Order.objects.filter(state__in=("placed", "charged")).exclude(card="slow-9")
        while Receipt.objects.count() < 3 or open_orders.exists():
            time.sleep(0.05)
        while Order.objects.get(card="slow-9").attempts < 4:
            time.sleep(0.05)
        self.stdout.write(json.dumps(stock_report.delay().get(timeout=60)))
        for order in Order.objects.order_by("pk"):
            self.stdout.write(f"order {order.pk} ({order.card}): {order.state}, {order.attempts} attempts")
