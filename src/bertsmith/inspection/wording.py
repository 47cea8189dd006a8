"""Numbers as a person says them."""


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def percent(share: float) -> str:
    """A share between 0 and 1 with one decimal."""
    return f"{share:.1%}"


def points(difference: float) -> str:
    """A difference of two shares."""
    return f"{100 * abs(difference):.1f} points"


def amount(number: int) -> str:
    """A count in three digits or so."""
    if number >= 1_000_000_000:
        return f"{number / 1e9:.3g} billion"
    if number >= 1_000_000:
        return f"{number / 1e6:.3g} million"
    return f"{number:,}"
