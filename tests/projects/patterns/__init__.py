"""Four projects as they are found in the field, in small: each runs on Celery's worker and on qcore's."""

import os


def note(*words: object) -> None:
    with open(os.environ["NOTES"], "a") as out:
        out.write(" ".join(map(str, words)) + "\n")
