"""How tables and sentences for people write intervals; files for programs hold plain numbers."""


def interval_text(low: float, high: float, form: str) -> str:
    """Return the two ends of an interval: "0.967 to 0.993".

    Args:
        low: lower end.
        high: upper end.
        form: format specification of both, such as ".3f" or "+.1f".
    """
    return f"{low:{form}} to {high:{form}}"
