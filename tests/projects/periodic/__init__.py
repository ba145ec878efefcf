"""A Django project written for Celery, with the schedule of django-celery-beat."""
