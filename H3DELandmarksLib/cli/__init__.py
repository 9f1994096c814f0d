"""The commands of `cli.main`, one per module: ``add_parser`` declares its arguments, ``run`` does the work.

Nothing heavy is imported before a command runs, so that help and the list of models are quick.
"""
