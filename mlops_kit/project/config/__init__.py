"""``mlops.yaml`` as pydantic models: every default, unit and meaning is defined here, once.

To add a setting: 1. add a field with a ``description`` to one of the sections, 2. read it where it
is needed. ``mlops config`` and the error messages know it from then on.

To rename a setting: add the old name to ``legacy.RENAMED_SETTINGS``, so that the configuration of
earlier runs is still read.
"""
