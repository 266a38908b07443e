"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""


class UserError(ValueError):
    """Bad input. The message is one line that names the file, key or value and what to do.

    Command-line tools print the message alone and exit with status 2; any other exception is a
    defect and keeps its traceback.
    """
