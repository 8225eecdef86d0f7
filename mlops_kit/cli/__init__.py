"""The ``mlops`` command."""


def main() -> None:
    """Run the command line; whatever it raises is reported in a few lines.

    The commands are imported here, so that a failing import is reported like any other error.
    """
    from mlops_kit.cli.crash import report_crash

    try:
        from mlops_kit.cli import application

        application.main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # as a shell reports a program that Ctrl-C ended
    except Exception as error:  # a fault anywhere: a library, the environment, this package
        raise SystemExit(report_crash(error)) from None
