"""The tables."""

from django.db import models


class Product(models.Model):
    name = models.CharField(max_length=50, unique=True)
    stock = models.PositiveIntegerField()


class Order(models.Model):
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField()
    card = models.CharField(max_length=50)
    state = models.CharField(max_length=20, default="placed")
    attempts = models.PositiveIntegerField(default=0)


class Receipt(models.Model):
    order = models.OneToOneField(Order, on_delete=models.CASCADE)
    text = models.CharField(max_length=200)
