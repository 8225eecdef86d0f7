"""The project's own history under several retraining policies: ``mlops replay``.

``policies`` has the policies, ``history`` what was known on each day, ``fits`` the models that a
retraining would have made, ``simulation`` the decisions of one policy, ``oracle`` the best days in
hindsight, ``costs`` the comparison, and ``comparison`` puts them together.
"""
