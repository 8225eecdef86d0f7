"""Training: families of models, the search among them, fits of the recipe that won.

``spaces`` knows what can be built, ``fit`` how it is fitted and tried in time, ``search`` (the only
one that knows Optuna) which recipe is best. Importing this imports none of their libraries.
"""

from __future__ import annotations
