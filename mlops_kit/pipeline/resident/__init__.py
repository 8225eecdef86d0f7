"""The resident fork server: a process that keeps imported libraries in memory between runs.

``address`` says which server serves this process and where it listens, ``protocol`` what is said,
``server`` is the server, and ``client`` the other side of the connection.

Importing this package and ``address``, ``protocol`` and ``client`` loads nothing heavy: the command
line does so before anything else.
"""
