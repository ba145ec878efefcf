"""A Django project written for Celery, with the results of django-celery-results."""
