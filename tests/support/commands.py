"""`k2-verifier` in this process."""

from click.testing import CliRunner, Result

from k2_verifier_adapter.cli import main


def invoke(*arguments: object) -> Result:
    """Run the command; standard output and standard error apart."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="k2-verifier")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
