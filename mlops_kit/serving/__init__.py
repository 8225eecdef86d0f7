"""The prediction service: REST endpoints in front of the champion.

``server`` runs it, ``app`` defines the routes, ``service`` handles requests, ``batcher`` scores
them, ``champion_follower`` keeps the served version up to date, ``auth`` controls access and
``telemetry`` counts.
"""
