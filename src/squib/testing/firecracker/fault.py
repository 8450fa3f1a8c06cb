"""What a VMM answers instead of doing as it was told."""


class Fault(Exception):
    """A refusal: an HTTP status and the text of `fault_message`."""

    def __init__(self, text: str, status: int = 400):
        super().__init__(text)
        self.text, self.status = text, status


class Fatal(Fault):
    """A refusal after which the process ends with status 1."""


def os_text(error: OSError) -> str:
    """An operating system's error as Rust writes it."""
    return f"{error.strerror} (os error {error.errno})"
